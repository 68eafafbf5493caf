"""Which codec keeps people's words? A small recogniser is trained on the codes of each, and tested on a person left out.

    python benchmarks/codec_probe.py --people DIR --left-out speaker_c --codec data_samples/codec.safetensors new.safetensors
    python benchmarks/codec_probe.py --left-out speaker_c --corpus corpus_of_one_codec corpus_of_the_other

A spectral distance does not tell whether words survive. This does, in a few minutes: a bidirectional GRU learns to read
words from codes (CTC), for equal time with every codec, from the same utterances by everybody else, recorded alike and
passed through the front end. With --corpus it reads the transcripts of corpora that were drawn alike and encoded with the
codecs, all but those of the person left out. Read the differences between codecs, not the figures themselves: the
recogniser is small and has few people to learn from.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from timed_training import provenance
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from minittt.codec import Codec
from minittt.data.conversation import reply_text
from minittt.data.corpus import Corpus, load_corpus
from minittt.evaluation.referee import TwoWayGRU, collapse
from minittt.evaluation.scores import word_errors
from minittt.world import lexicon, microphone
from minittt.world.users import Users, listened, perturbed

WORDS = sorted({*lexicon.WORDS, "how", "much"})  # class 1 + i is word i, class 0 the blank of CTC
WIDTH = 128
BATCH = 32


class Reader(nn.Module):
    """Codes to words: an embedding, two layers of GRU in both directions, CTC."""

    def __init__(self, n_codes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(n_codes, WIDTH)
        self.layers = nn.ModuleList([TwoWayGRU(WIDTH, WIDTH), TwoWayGRU(2 * WIDTH, WIDTH)])
        self.head = nn.Linear(2 * WIDTH, 1 + len(WORDS))
        self.dropout = nn.Dropout(0.2)

    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """codes (B, T) of the given lengths (B,) -> log-probabilities (B, T, 1 + words)."""
        x = self.dropout(self.embed(codes))  # (B, T, width)
        for layer in self.layers:
            x = self.dropout(layer(x, lengths))
        return self.head(x).log_softmax(-1)


def draw_pairs(n: int, users: Users, seed: int) -> list[tuple[np.ndarray, str]]:
    """n waves (samples,) as they are heard, and their words; half the voices are perturbed."""
    pairs = []
    for i in tqdm(range(n), "utterances", leave=False):
        rng = np.random.default_rng([seed, i])
        said = users.draw(rng)
        wave = said.wave
        if rng.random() < 0.5:
            wave = perturbed(wave, rng)
        heard, _ = listened(wave, rng)
        pairs.append((heard, said.text))
    return pairs


def person_pairs(users: Users, speaker: str, n: int, seed: int, words: tuple[int, int]) -> list:
    """n strings of a person, recorded well: `words` from the fewest to the most."""
    pairs = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        said = users.joined(speaker, int(rng.integers(words[0], words[1] + 1)), rng)
        heard, _ = listened(said.wave, rng, microphone.Recording())
        pairs.append((heard, said.text))
    return pairs


def encoded(codec: Codec, pairs: list) -> list[tuple[Tensor, list[int]]]:
    """Codes (T,) of the first codebook, and classes of the words."""
    codes = codec.encode_many([wave for wave, _ in pairs])
    return [
        (row[0], [1 + WORDS.index(word) for word in text.split()])
        for row, (_, text) in zip(codes, pairs, strict=True)
    ]


def batch_of(rows: list) -> tuple[Tensor, Tensor]:
    """Codes (B, T) and their lengths (B,)."""
    lengths = torch.tensor([len(codes) for codes, _ in rows])
    return pad_sequence([codes for codes, _ in rows], batch_first=True), lengths


def train_reader(rows: list, n_codes: int, minutes: float, seed: int) -> Reader:
    """As many steps as fit into the minutes; rows that are shorter than their words are left out."""
    torch.manual_seed(seed)
    rows = [row for row in rows if len(row[0]) >= 2 * len(row[1])]
    reader = Reader(n_codes).train()
    optimiser = torch.optim.AdamW(reader.parameters(), 2e-3, weight_decay=0.01)
    begin = time.process_time()
    rng = np.random.default_rng(seed)
    while (progress := (time.process_time() - begin) / (60 * minutes)) < 1:
        chosen = [rows[i] for i in rng.integers(len(rows), size=BATCH)]
        codes, lengths = batch_of(chosen)
        # codes are replaced at random, so that the reader does not learn the few people by heart
        replaced = torch.rand(codes.shape) < 0.05
        codes = torch.where(replaced, torch.randint(n_codes, codes.shape), codes)
        targets = torch.cat([torch.tensor(words) for _, words in chosen])
        counts = torch.tensor([len(words) for _, words in chosen])
        log_p = reader(codes, lengths).transpose(0, 1)  # (T, B, 1 + words)
        loss = nn.functional.ctc_loss(log_p, targets, lengths, counts, zero_infinity=True)
        optimiser.param_groups[0]["lr"] = 2e-3 * min(1.0, 20 * progress + 0.01) * (1 - progress)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 5.0)
        optimiser.step()
    return reader.eval()


@torch.no_grad()
def errors(reader: Reader, rows: list) -> float:
    """Word error rate."""
    wrong = 0
    total = 0
    for start in range(0, len(rows), 64):
        part = rows[start : start + 64]
        codes, lengths = batch_of(part)
        best = reader(codes, lengths).argmax(-1)  # (B, T)
        for row, length, (_, words) in zip(best, lengths, part, strict=True):
            heard = " ".join(WORDS[c - 1] for c in collapse(row[:length].tolist()))
            said = " ".join(WORDS[c - 1] for c in words)
            mistakes, count = word_errors(said, heard)
            wrong += mistakes
            total += count
    return wrong / total


def rows_of(corpus: Corpus, records: list[dict]) -> list[tuple[Tensor, list[int]]]:
    """Codes (T,) and classes of the words, of transcripts that say nothing else."""
    rows = []
    for record in records:
        words = reply_text(record).split()
        if all(word in WORDS for word in words):
            codes = torch.from_numpy(corpus.audio(heard_in(record)).astype(np.int64))
            rows.append((codes, [1 + WORDS.index(word) for word in words]))
    return rows


def heard_in(record: dict) -> int:
    """The number of the utterance that a transcript is of."""
    return record["messages"][1][1]


def probe_corpus(folder: Path, left_out: str, minutes: float, seed: int) -> dict[str, float]:
    """Word error rates of a recogniser trained on a corpus's transcripts without those of `left_out`."""
    corpus = load_corpus(folder)
    transcripts = {}
    for split in ("train", "makes", "voices"):
        transcripts[split] = [r for r in corpus.split(split) if r["family"] == "asr"]
    of_person, of_others = [], []
    for record in transcripts["train"]:
        is_persons = corpus.utterances[heard_in(record)]["voice"] == left_out
        (of_person if is_persons else of_others).append(record)
    reader = train_reader(rows_of(corpus, of_others), corpus.vocabulary.codebook_size, minutes, seed)
    rows = rows_of(corpus, of_person)
    tests = {
        f"{left_out}, single": [row for row in rows if len(row[1]) == 1],
        f"{left_out}, strings": [row for row in rows if len(row[1]) > 1],
        "other makes never heard": rows_of(corpus, transcripts["makes"]),
        "formant voices never heard": rows_of(corpus, transcripts["voices"]),
    }
    found = {"codec": corpus.info["codec"]}
    for name, some in tests.items():
        found[name] = round(errors(reader, some), 4)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print, and write, the word error rates of each codec."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", type=Path, nargs="+", default=[])
    parser.add_argument("--corpus", type=Path, nargs="+", default=[], help="in place of --codec")
    parser.add_argument("--people", type=Path, help="with --codec: a folder of single words")
    parser.add_argument("--recorded", type=Path, help="a folder that minittt.world.makes wrote")
    parser.add_argument("--left-out", default="speaker_c", help="whom the recogniser has not met")
    parser.add_argument("--never", nargs="*", default=["speaker_d"], help="who is not heard at all")
    parser.add_argument(
        "--minutes", type=float, default=3.0, help="of training each recogniser, processor time"
    )
    parser.add_argument("--utterances", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    found = {}
    for folder in args.corpus:
        found[folder.name] = probe_corpus(folder, args.left_out, args.minutes, args.seed)
        print(folder, found[folder.name], flush=True)
    if args.codec:
        found |= probe_codecs(args)
    if args.json:
        made = {"arguments": vars(args), "codecs": found, **provenance(torch.device("cpu"))}
        args.json.write_text(json.dumps(made, indent=1, default=str) + "\n", encoding="utf-8")


def probe_codecs(args: argparse.Namespace) -> dict[str, dict]:
    """Word error rates of each codec, on utterances drawn here."""
    users = Users(args.recorded, args.people, left_out=(args.left_out, *args.never))
    person = Users(None, args.people, left_out=tuple(args.never))
    pairs = draw_pairs(args.utterances, users, args.seed)
    tests = {
        f"{args.left_out}, single": person_pairs(person, args.left_out, 500, 1, (1, 1)),
        f"{args.left_out}, strings of 2 to 4": person_pairs(person, args.left_out, 200, 2, (2, 4)),
    }
    unseen = Users(None, None, formant=lexicon.UNSEEN)
    tests["formant voices never heard"] = draw_pairs(200, unseen, 3)
    found = {}
    for path in args.codec:
        codec = Codec.load(path)
        begin = time.process_time()
        reader = train_reader(encoded(codec, pairs), codec.config.codebook_size, args.minutes, args.seed)
        rates = {name: round(errors(reader, encoded(codec, rows)), 4) for name, rows in tests.items()}
        found[path.stem] = {"fingerprint": codec.fingerprint(), **rates}
        print(path, rates, f"{time.process_time() - begin:.0f} s", flush=True)
    return found


if __name__ == "__main__":
    main()
