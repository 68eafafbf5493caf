"""How many of people's words does a codec keep, for a recogniser that knows neither the people nor the codec?

    python benchmarks/codec_people.py --people DIR --speaker speaker_a speaker_b speaker_c

Single words are recorded well, pass through the front end, and are heard twice by an outside judge: unchanged, and after a
round trip through the codec. The judge is PocketSphinx, which has to hear a digit, or, with --judge-model, Whisper. Of the
words that the judge recognises unchanged, what counts is the share kept. A codec that was trained on none of these people
has left out all of them.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from timed_training import provenance

from minittt.codec import Codec
from minittt.data import front_end
from minittt.evaluation.outside_judge import OutsideJudge, WordJudge
from minittt.evaluation.people import single_words
from minittt.evaluation.scores import ratio, same_text
from minittt.settings import samples_folder
from minittt.world.users import RATE, Users

SURROUNDED = 0.4  # seconds of silence before and after a word: Whisper is not made for single words


def round_trip(codec: Codec, wave: np.ndarray) -> np.ndarray:
    """wave (samples,) through encoder, codebook and decoder."""
    codes = codec.encode(torch.from_numpy(wave)[None])  # (1, n_q, T)
    return codec.decode(codes)[0, : len(wave)].numpy()


def surrounded(wave: np.ndarray) -> np.ndarray:
    """(samples,) with silence on both sides."""
    return np.pad(wave, round(SURROUNDED * RATE))


def main(arguments: list[str] | None = None) -> None:
    """Print, and write, what the judge knows before and after, for each person and codec."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=Path, required=True, help="a folder of single words")
    parser.add_argument(
        "--judge-model", type=Path, help="Whisper in place of PocketSphinx: a model for CTranslate2"
    )
    parser.add_argument("--speaker", nargs="+", help="who (default: everybody)")
    parser.add_argument("--codec", type=Path, nargs="+", default=[samples_folder() / "codec.safetensors"])
    parser.add_argument("--each", type=int, default=50, help="words of each person")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    judge = OutsideJudge(args.judge_model) if args.judge_model else WordJudge()
    people = Users(None, args.people)
    codecs = {path: Codec.load(path) for path in args.codec}
    found = []
    for speaker in args.speaker or people.speakers:
        said = single_words(people, speaker, args.each)
        waves = [front_end.listen(one.wave, RATE) for one in said]
        texts = judge.transcribe([surrounded(wave) for wave in waves], RATE)
        known = [
            i for i, (one, text) in enumerate(zip(said, texts, strict=True)) if same_text(one.text, text)
        ]
        row = {"speaker": speaker, "words": len(said), "known as they are": len(known)}
        for path, codec in codecs.items():
            after = judge.transcribe([surrounded(round_trip(codec, waves[i])) for i in known], RATE)
            kept = [same_text(said[i].text, text) for i, text in zip(known, after, strict=True)]
            score = ratio(f"{speaker}, {path.parent.name}/{path.name}: known words kept", kept)
            print(score, flush=True)
            row[codec.fingerprint()] = [score.value, score.low, score.high]
        found.append(row)
    if args.json:
        about = {"arguments": vars(args), "judge": judge.name, **provenance(torch.device("cpu"))}
        args.json.write_text(
            json.dumps({"people": found, **about}, indent=1, default=str) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
