"""Ways to break `minittt/app/streaming.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

PACE = "the_first_sound_is_timed_at_the_first_piece"
PIECES = "pieces_add_up_to_decoding_at_once"
FINAL = "a_frame_more_leaves_what_was_sent"
FIRST = "a_frame_is_first_heard_half_a_kernel_early"
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
    # the decoder: sent before it is final, twice, or less than there is
    Mutant(PIECES, "min(heard[frames:])", "frames * codec.hop"),
    Mutant(PIECES, "frames * codec.hop - lookahead", "frames * codec.hop"),
    Mutant(PIECES, "torch.cat([self.codes, codes], dim=1)", "codes"),
    Mutant(PIECES, "wave[self.sent : final]", "wave[self.sent :]"),
    Mutant(PIECES, "        self.sent = final\n", ""),
    Mutant(FINAL, "(PROBED - 1) * codec.hop - heard[-1]", "PROBED * codec.hop - heard[-1]"),
    Mutant(FIRST, "latents[j, :, j] = torch.nan", "latents[j, :, j + 1] = torch.nan"),
    Mutant(FIRST, "row.nonzero()[0]", "row.nonzero()[-1]"),
    # blocks to frames
    Mutant(FRAMES, "waiting[event.row] = codes[whole:]", "waiting[event.row] = []"),
    Mutant(FRAMES, "whole_frames(codes[:whole], n_codebooks, size)", "codes[:whole]"),
    Mutant(FRAMES, "decoders.pop(event.row)", "decoders[event.row]"),
    Mutant(
        FRAMES,
        "                waiting[event.row] = []\n",
        "                waiting.setdefault(event.row, [])\n",
    ),
    Mutant(FRAMES, "new = torch.zeros(codec.hop)", "new = torch.zeros(0)"),
]
