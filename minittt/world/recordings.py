"""Anyone's own recordings as token files: the same folder that `spoken_world.build` writes, for the same commands.

A folder of recordings holds audio files and a metadata.csv, the common audio-folder layout: columns file_name and
transcript and, optionally, speaker and reply (what the assistant should answer to this recording). Each recording gives an
ASR and a TTS record; one with a reply also gives a spoken question, answered aloud where some recording says the reply.
"""

import csv
import hashlib
import io
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr
from tqdm import tqdm

from minittt.codec import Codec, CodecError, flatten, read_audio, whole_file
from minittt.data import front_end
from minittt.data.corpus import codec_info, is_of_a_corpus, save_corpus
from minittt.data.headers import NO_FRONT_END, UNKNOWN
from minittt.data.vocabulary import train_tokeniser
from minittt.errors import MinitttError
from minittt.files import whole_folder
from minittt.talker import Talker
from minittt.world import microphone

INSTRUCTIONS = ("transcribe", "speak", "answer")
LOWEST, HIGHEST = 0.85, 1.35  # factors of all frequencies in the copies of a recording
STRINGS = 3  # how many begin with each single word
LONGEST_STRING = 4  # words
LONGEST_PAUSE = 0.25  # seconds between the words of a string
TRANSCRIPT_NAMES = ("transcript", "transcription", "text", "sentence")


def read_metadata(folder: Path) -> list[dict]:
    """Rows of metadata.csv as {file, text, voice, reply, line}; line is where a row begins, counted from 1.

    Raises MinitttError naming the line that is wrong, or the encoding if it is not UTF-8.
    """
    path = folder / "metadata.csv"
    if not path.is_file():
        raise MinitttError(
            f"{folder} has no metadata.csv; it needs one with the columns file_name, transcript"
        )
    lines = _csv_rows(path)
    _, columns = next(lines, (1, []))
    transcript = next((name for name in TRANSCRIPT_NAMES if name in columns), None)
    if "file_name" not in columns or transcript is None:
        raise MinitttError(f"{path} has the columns {', '.join(columns)}; it needs file_name and transcript")
    if len(set(columns)) < len(columns):
        raise MinitttError(f"{path} has the columns {', '.join(columns)}; no two may have one name")
    rows = []
    line_of: dict[str, int] = {}  # where each file was named
    for number, fields in lines:
        if len(fields) > len(columns):
            raise MinitttError(
                f"{path}, line {number}: {len(fields)} fields for {len(columns)} columns; "
                "put a text that holds a comma in double quotes"
            )
        row = dict(zip(columns, fields, strict=False))  # the last fields may be left out
        name, text = row["file_name"].strip(), row.get(transcript, "").strip()
        if not name or not text:
            raise MinitttError(f"{path}, line {number}: file_name or transcript is empty")
        if "\0" in name:
            raise MinitttError(f"{path}, line {number}: file_name holds a zero byte: save the file as UTF-8")
        place = os.path.normpath(name)
        if place in line_of:
            raise MinitttError(
                f"{path}, line {number}: {name} is on line {line_of[place]} too; name each recording once"
            )
        line_of[place] = number
        voice = row.get("speaker", "").strip()
        reply = row.get("reply", "").strip()
        rows.append({"file": folder / name, "text": text, "voice": voice, "reply": reply, "line": number})
    if len(rows) < 2:
        raise MinitttError(
            f"{path} lists {len(rows)} recordings; it needs two or more, one of them to be held out"
        )
    return rows


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The non-blank rows, each with the line on which it begins. Raises MinitttError naming what is wrong."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MinitttError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start}): save it in that encoding"
        ) from error
    except OSError as error:
        raise MinitttError(f"{path} cannot be read ({error})") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        begins = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise MinitttError(f"{path}, line {begins}: {error}; is a quotation mark not closed?") from error
        if any(field.strip() for field in row):
            yield begins, row


def split_rows(
    rows: list[dict],
    seed: int = 0,
    held_out: float = 0.1,
    hold_out: tuple[str, ...] = (),
    contents: list[str] | None = None,
) -> dict[str, list[int]]:
    """Row numbers of the splits: renditions is a tenth of the rows, voices is whole speakers.

    hold_out: the speakers of `voices`; if none is given and there are three, the one with the fewest rows. contents: what
    each row's recording holds (`contents_of`); rows with equal content stay together. Raises MinitttError for a speaker
    that is not there, or if nobody is left.
    """
    rng = random.Random(seed)
    # 1. Whole speakers.
    count = Counter(row["voice"] for row in rows if row["voice"])
    unknown = sorted(set(hold_out) - set(count))
    if unknown:
        raise MinitttError(
            f"no recording is by {', '.join(unknown)}; speakers are {', '.join(sorted(count)) or 'not named'}"
        )
    hidden = set(hold_out)
    if not hidden and len(count) >= 3:
        fewest = min(count.values())
        hidden = {rng.choice(sorted(name for name, n in count.items() if n == fewest))}
    voices = [i for i, row in enumerate(rows) if row["voice"] in hidden]
    hidden_contents = {contents[i] for i in voices} if contents else set()
    # 2. Some recordings of the others.
    groups: dict[str | int, list[int]] = {}
    for i, row in enumerate(rows):
        if row["voice"] in hidden:
            continue
        content = contents[i] if contents else i
        if content in hidden_contents:
            voices.append(i)  # the same recording under another name is not a new one
        else:
            groups.setdefault(content, []).append(i)
    if len(groups) < 2:
        raise MinitttError(
            "one recording or none is left to train on: hold out fewer speakers, or record more"
        )
    shuffled = list(groups.values())
    rng.shuffle(shuffled)
    n = max(1, round(held_out * len(shuffled)))
    splits = {
        "train": sorted(i for group in shuffled[n:] for i in group),
        "renditions": sorted(i for group in shuffled[:n] for i in group),
    }
    return {**splits, "voices": sorted(voices)} if voices else splits


def contents_of(folder: Path, rows: list[dict]) -> list[str]:
    """A hash of each recording's file. Raises MinitttError naming the line of a file that cannot be read."""
    contents = []
    for row in rows:
        try:
            contents.append(hashlib.sha256(row["file"].read_bytes()).hexdigest())
        except OSError as error:
            raise MinitttError(
                f"{folder / 'metadata.csv'}, line {row['line']}: {row['file']} cannot be read"
            ) from error
    return contents


def describe_splits(rows: list[dict], splits: dict[str, list[int]]) -> str:
    """What is held out, in words."""
    parts = []
    if "voices" in splits:
        names = sorted({rows[i]["voice"] for i in splits["voices"]} - {""})
        parts.append(f"{', '.join(names)} ({len(splits['voices'])} recordings, the split voices)")
    if "renditions" in splits:
        parts.append(f"{len(splits['renditions'])} recordings of the others (the split renditions)")
    if "test" in splits:
        parts.append(f"all {len(splits['test'])} recordings (the split test)")
    return "held out: " + "; ".join(parts)


def records_of(rows: list[dict], chosen: list[int], spoken: dict[str, int]) -> list[dict]:
    """The records of some rows. `spoken` maps a text to an utterance that can say it aloud as a reply."""
    records = []
    for i in chosen:
        text, reply = rows[i]["text"], rows[i]["reply"]
        records.append(_record("asr", ["system", "transcribe"], ["user", i], ["assistant", text]))
        records.append(_record("tts", ["system", "speak"], ["user", text], ["assistant", i]))
        if reply:
            aloud = [spoken[reply]] if reply in spoken else []
            records.append(_record("qa", ["system", "answer"], ["user", i], ["assistant", reply, *aloud]))
    return records


def _record(family: str, *messages: list) -> dict:
    return {"family": family, "messages": list(messages)}


def import_recordings(
    folder: str | Path,
    out: str | Path,
    codec: Codec,
    seed: int = 0,
    licence: str = UNKNOWN,
    like: Talker | None = None,
    hold_out: tuple[str, ...] = (),
    test_only: bool = False,
    copies: int = 0,
) -> None:
    """Read, encode and write; nothing is written if any file is missing or is not audio.

    licence: that of the recordings, as an SPDX identifier; it is kept in corpus.json and in talkers trained on it.
    like: a talker that is to be trained further with them, or measured on them: its front end is used (the newest, if it has
    none), and its tokeniser where that knows every letter. hold_out: the speakers of the split `voices`. test_only: nothing
    is for training; everything is one split, `test`. copies: how many of each training recording, in other voices and rooms;
    with copies, single words are also joined into strings (`strings_of`).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MinitttError(f"there is no folder {folder}: check its name")
    if like is not None:
        like.check_codec(codec)
    with whole_folder(out, is_of_a_corpus) as unfinished:
        _import(folder, unfinished, codec, seed, licence, like, hold_out, test_only, copies)


def _import(
    folder: Path,
    out: Path,
    codec: Codec,
    seed: int,
    licence: str,
    like: Talker | None,
    hold_out: tuple[str, ...],
    test_only: bool,
    copies: int,
) -> None:
    """Fill the empty folder `out`; see `import_recordings`."""
    # 1. What is there, and which of it is held out: said before any work is done.
    rows = read_metadata(folder)
    if test_only:
        splits = {"test": list(range(len(rows)))}
        contents_of(folder, rows)
    else:
        splits = split_rows(rows, seed, hold_out=hold_out, contents=contents_of(folder, rows))
    tqdm.write(describe_splits(rows, splits))
    # 2. The tokeniser first, as the sound takes longer.
    _write_tokeniser(out / "tokeniser.model", rows, like)
    # 3. Sound to codes, with copies of what is trained on.
    name = front_end.NAME
    if like is not None and like.info.get("front_end") not in (None, NO_FRONT_END):
        name = like.info["front_end"]
    rate = codec.config.sample_rate
    waves = _read(folder, rows, rate)
    heard = [front_end.front_end_named(name)(wave, rate) for wave in waves]
    made_of: list[tuple[int, ...]]  # the rows that each utterance consists of
    made_of = [(i,) for i in range(len(rows))]
    training = splits.get("train", [])
    if copies:
        made_of += [(i,) for i in training for _ in range(copies)]
        made_of += strings_of(rows, training, seed)
    for number in range(len(rows), len(made_of)):
        rng = np.random.default_rng([seed, number])
        whole = _joined([waves[i] for i in made_of[number]], rate, rng)
        heard.append(_copy(whole, rate, name, rng))
    codes = [flatten(c, codec.config.codebook_size).numpy() for c in codec.encode_many(heard)]
    # 4. Texts and records.
    records = _records(rows, splits, made_of)
    utterances = [{"text": _text(rows, chosen), "voice": rows[chosen[0]]["voice"]} for chosen in made_of]
    save_corpus(out, codec_info(codec), codes, utterances, records, codec.codebooks().numpy(), licence, name)


def strings_of(rows: list[dict], chosen: list[int], seed: int = 0) -> list[tuple[int, ...]]:
    """Strings of the single words among some rows, each by one speaker: STRINGS of them begin with each word.

    People who record single words will say several, and a talker that never heard several in a row does not understand them.
    """
    by_speaker: dict[str, list[int]] = {}
    for i in chosen:
        if " " not in rows[i]["text"]:
            by_speaker.setdefault(rows[i]["voice"], []).append(i)
    rng = random.Random(seed)
    strings = []
    for mine in by_speaker.values():
        if len({rows[i]["text"] for i in mine}) < 2:
            continue
        for i in mine:
            for _ in range(STRINGS):
                others = rng.choices(mine, k=rng.randint(1, LONGEST_STRING - 1))
                strings.append((i, *others))
    return strings


def _joined(waves: list[np.ndarray], rate: int, rng: np.random.Generator) -> np.ndarray:
    """Recordings (samples_i,) one after another, with short pauses; a single one is left unchanged."""
    if len(waves) == 1:
        return waves[0]
    parts = []
    for wave in waves:
        wave = front_end.without_offset(wave, rate)
        start, stop = front_end.edges(wave, rate)
        parts.append(wave[start:stop])
        pause = rng.uniform(0, LONGEST_PAUSE)
        parts.append(np.zeros(round(pause * rate), np.float32))
    return np.concatenate(parts[:-1])


def _text(rows: list[dict], chosen: tuple[int, ...]) -> str:
    return " ".join(rows[i]["text"] for i in chosen)


def _read(folder: Path, rows: list[dict], rate: int) -> list[np.ndarray]:
    """The recordings (samples_i,), at the codec's rate."""
    waves = []
    for row in tqdm(rows, desc="reading"):
        try:
            waves.append(read_audio(row["file"], rate))
        except CodecError as error:
            raise MinitttError(f"{folder / 'metadata.csv'}, line {row['line']}: {error}") from error
    return waves


def _copy(wave: np.ndarray, rate: int, front_end_name: str, rng: np.random.Generator) -> np.ndarray:
    """A recording (samples,) in another voice of its kind and in another room, as the talker hears it."""
    factor = np.exp(rng.uniform(np.log(LOWEST), np.log(HIGHEST)))
    moved = soxr.resample(wave, rate * factor, rate)
    recorded, _ = microphone.record(moved, microphone.draw_recording(rng), rate, rng)
    return front_end.front_end_named(front_end_name)(recorded, rate)


def _records(
    rows: list[dict], splits: dict[str, list[int]], made_of: list[tuple[int, ...]]
) -> dict[str, list[dict]]:
    """Records of every split. A copy is heard wherever its original is, a string is transcribed; neither is ever spoken."""
    spoken = {rows[i]["text"]: i for i in splits.get("train", [])}
    records = {name: records_of(rows, chosen, spoken) for name, chosen in splits.items()}
    for number in range(len(rows), len(made_of)):
        chosen = made_of[number]
        heard = ["user", number]
        text = _text(rows, chosen)
        records["train"].append(_record("asr", ["system", "transcribe"], heard, ["assistant", text]))
        answer = rows[chosen[0]]["reply"]
        if answer and len(chosen) == 1:
            aloud = [spoken[answer]] if answer in spoken else []
            records["train"].append(_record("qa", ["system", "answer"], heard, ["assistant", answer, *aloud]))
    return records


def _write_tokeniser(path: Path, rows: list[dict], like: Talker | None) -> None:
    """The talker's tokeniser, if there is a talker and it knows every letter; otherwise one trained on these texts, too."""
    texts = [text for row in rows for text in (row["text"], row["reply"]) if text]
    if like is None:
        train_tokeniser([*texts, *INSTRUCTIONS], path)
        return
    try:
        for text in texts:
            like.tokeniser.encode(text)
    except MinitttError as error:
        tqdm.write(
            f"{error}: a new tokeniser is trained; `minittt train --init` keeps all pieces that both have"
        )
        train_tokeniser([*texts, *INSTRUCTIONS, *(like.words or [])], path)
        return
    with whole_file(path) as unfinished:
        unfinished.write_bytes(like.tokeniser.content)
