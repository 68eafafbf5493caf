"""Ways to break `minittt/streaming.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

PACE = "the_first_sound_is_timed_at_the_first_piece"
PIECES = "pieces_add_up_to_decoding_at_once"
FRAMES = "frames_that_are_split_between_blocks"

MUTANTS = [
    # the pace
    Mutant(
        PACE, "pace.first or time.perf_counter() - begin", "time.perf_counter() - begin"
    ),  # of the last piece
    Mutant(PACE, "pace.first or time.perf_counter() - begin", "pace.first or time.perf_counter()"),
    Mutant(PACE, "len(samples) / codec.config.sample_rate", "len(samples)"),
    Mutant(PACE, "pace.speech += len(samples)", "pace.speech = len(samples)"),
    Mutant(PACE, "            if len(samples):\n", "            if True:\n"),
    # the decoder: sent before it is final, heard too little of, or without memory
    Mutant(PIECES, "frames if final else frames - before", "frames"),
    Mutant(PIECES, "(0 if final else before)", "0"),
    Mutant(PIECES, "done - before - after - 1)", "done - 1)"),
    Mutant(PIECES, "(self.sent - before - after) // hop - 1", "self.sent // hop"),
    Mutant(PIECES, "y, self.memory = self.lstm.lstm", "y, _ = self.lstm.lstm"),
    Mutant(PIECES, "ready = 0  #", "pass  #"),
    # blocks to frames
    Mutant(FRAMES, "del codes[:whole]", "codes.clear()"),
    Mutant(FRAMES, "whole_frames(codes[:whole], n_codebooks, size)", "codes[:whole]"),
    Mutant(FRAMES, "spans.pop(event.row)", "spans[event.row]"),
    Mutant(
        FRAMES,
        "spans[event.row] = StreamingDecoder(codec), []",
        "spans[event.row] = StreamingDecoder(codec), codes",
    ),
    Mutant(FRAMES, "else torch.zeros(codec.hop)", "else torch.zeros(0)"),
]
