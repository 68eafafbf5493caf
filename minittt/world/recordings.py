"""Anyone's own recordings as token files: the same folder that `spoken_world.build` writes, for the same commands.

A folder of recordings holds audio files and a metadata.csv, the common audio-folder layout: columns file_name and
transcript, and if wanted speaker and reply (what the assistant is to answer to this recording). Each recording gives an
ASR and a TTS record; one with a reply also a spoken question, answered aloud where some recording says the reply.
"""

import csv
import random
from pathlib import Path

from tqdm import tqdm

from minittt.codec import Codec, CodecError, flatten, read_audio
from minittt.data import front_end
from minittt.data.corpus import codec_info, save_corpus
from minittt.data.headers import UNKNOWN
from minittt.data.vocabulary import train_tokeniser
from minittt.errors import MinitttError

INSTRUCTIONS = ("transcribe", "speak", "answer")
TRANSCRIPT_NAMES = ("transcript", "transcription", "text", "sentence")


def read_metadata(folder: Path) -> list[dict]:
    """Rows of metadata.csv as {file, text, voice, reply}. Raises MinitttError naming the line that is wrong."""
    path = folder / "metadata.csv"
    if not path.is_file():
        raise MinitttError(
            f"{folder} has no metadata.csv; it needs one with the columns file_name, transcript"
        )
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        transcript = next((name for name in TRANSCRIPT_NAMES if name in columns), None)
        if "file_name" not in columns or transcript is None:
            raise MinitttError(
                f"{path} has the columns {', '.join(columns)}; it needs file_name and transcript"
            )
        rows = []
        for number, row in enumerate(reader, start=2):
            name, text = (row["file_name"] or "").strip(), (row[transcript] or "").strip()
            if not name or not text:
                raise MinitttError(f"{path}, line {number}: file_name or transcript is empty")
            reply = (row.get("reply") or "").strip()
            rows.append(
                {
                    "file": folder / name,
                    "text": text,
                    "voice": (row.get("speaker") or "").strip(),
                    "reply": reply,
                }
            )
    if len(rows) < 2:
        raise MinitttError(
            f"{path} lists {len(rows)} recordings; it needs two or more, one of them to be held out"
        )
    return rows


def split_rows(rows: list[dict], seed: int = 0, held_out: float = 0.1) -> dict[str, list[int]]:
    """Row numbers of the splits: renditions is a tenth of the rows, voices one whole speaker where there are three."""
    rng = random.Random(seed)
    speakers = sorted({row["voice"] for row in rows if row["voice"]})
    hidden = rng.choice(speakers) if len(speakers) >= 3 else None
    voices = [i for i, row in enumerate(rows) if hidden is not None and row["voice"] == hidden]
    rest = [i for i in range(len(rows)) if i not in set(voices)]
    rng.shuffle(rest)
    n = max(1, round(held_out * len(rest)))
    splits = {"train": sorted(rest[n:]), "renditions": sorted(rest[:n])}
    return {**splits, "voices": voices} if voices else splits


def records_of(rows: list[dict], chosen: list[int], spoken: dict[str, int]) -> list[dict]:
    """The records of some rows. `spoken` maps a text to an utterance that may speak it aloud as a reply."""
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
    folder: str | Path, out: str | Path, codec: Codec, seed: int = 0, licence: str = UNKNOWN
) -> None:
    """Read, encode and write; nothing is written if any file is missing or is not audio.

    licence: of the recordings, as an SPDX identifier; it is kept in corpus.json and in talkers trained on it.
    """
    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise MinitttError(f"there is no folder {folder}")
    rows = read_metadata(folder)
    rate = codec.config.sample_rate
    waves = []
    for number, row in enumerate(tqdm(rows, desc="reading"), start=2):
        try:
            wave = read_audio(row["file"], rate)
        except CodecError as error:
            raise MinitttError(f"{folder / 'metadata.csv'}, line {number}: {error}") from error
        waves.append(front_end.listen(wave, rate))
    codes = [flatten(c, codec.config.codebook_size).numpy() for c in codec.encode_many(waves)]
    splits = split_rows(rows, seed)
    spoken = {rows[i]["text"]: i for i in splits["train"]}
    out.mkdir(parents=True, exist_ok=True)
    texts = [text for row in rows for text in (row["text"], row["reply"]) if text]
    train_tokeniser([*texts, *INSTRUCTIONS], out / "tokeniser.model")
    utterances = [{"text": row["text"], "voice": row["voice"]} for row in rows]
    records = {name: records_of(rows, chosen, spoken) for name, chosen in splits.items()}
    codebooks = codec.codebooks().numpy()
    save_corpus(
        out, codec_info(codec), codes, utterances, records, codebooks, licence, front_end=front_end.NAME
    )
