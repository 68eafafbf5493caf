"""What steps and policies cost the shipped talker, in time and in quality. `decoding.py` beside this file runs it.

time       seconds per audio token, one reply at a time, from the opening of a span to its end
quality    share of words that the referee hears correctly, over spoken answers and texts read aloud; compared item by item
           with the best number of steps in random order: the difference with its 95 % interval (bootstrap over records)
nats       per token of true speech, along the policy's own path through it: NELBO(K) for random order, an upper bound in
           expectation; exact -log p for orders that do not look at what was drawn; none for the one that does
"""

import itertools
import statistics
from dataclasses import dataclass

import numpy as np
import torch

from minittt.attention import TARGET, assign_groups
from minittt.codec import Codec
from minittt.context import CachedContext
from minittt.data.conversation import render
from minittt.data.corpus import Corpus, load_corpus
from minittt.decoding import Draft, Settings, SpanClosed, TextToken
from minittt.evaluation.evaluate import ask, family, true_spans, word_errors, words_of_reply
from minittt.evaluation.referee import Referee
from minittt.talker import Reply, Talker, decoding_settings
from minittt.unmasking import policy_named

WAYS = (  # block size, steps, policy; the first is AR audio
    (1, 1, "random_order"),
    *((16, steps, "random_order") for steps in (1, 2, 4, 8, 16)),
    *((8, steps, "random_order") for steps in (1, 2, 4, 8)),
    (16, 4, "left_to_right"),
    (16, 4, "entropy_order"),
    (16, 4, "confidence_released"),
    (16, 16, "confidence_threshold:0.9"),
    (16, 16, "entropy_bound:0.5"),
)


@dataclass
class Way:
    """One way to fill a block, and what was found."""

    block: int
    steps: int
    policy: str

    @property
    def name(self) -> str:
        """Block size, steps, policy."""
        return f"B={self.block} K={self.steps} {self.policy}"

    def settings(self, temperature: float) -> Settings:
        """Greedy text."""
        return decoding_settings(self.block, self.steps, temperature, policy=policy_named(self.policy))


def seconds_per_token(talker: Talker, asked: list[list], settings: Settings, now) -> tuple[float, float]:
    """Median over replies of the seconds per audio token of their spans, and the mean of forwards per audio token."""
    rates, forwards = [], []
    for seed, messages in enumerate(asked):
        reply, begin, slots, text = Reply(), now(), 0, 0
        for event in talker.stream([messages], settings, seed, [reply]):
            if isinstance(event, SpanClosed):
                rates.append((now() - begin) / (len(event.ids) + 1))
                slots += len(event.ids) + 1
            elif isinstance(event, TextToken):
                begin, text = now(), text + 1
        if slots:
            forwards.append((reply.nfe - text) / slots)
    return statistics.median(rates), statistics.mean(forwards)


@torch.no_grad()
def forced_nats(
    talker: Talker, corpus: Corpus, records: list[dict], way: Way, rows: int = 64
) -> float | None:
    """Nats per token (codes and one EOA a span) of the records' own speech on the path that the policy takes through it."""
    if "released" in way.policy:
        return None
    prefixes, blocks, tokens = [], [], 0
    for record in records:
        sequence = render(record, corpus, way.block)
        groups = assign_groups(torch.tensor(sequence.kinds), way.block)
        target = torch.tensor(sequence.kinds) == TARGET
        tokens += sum(len(corpus.audio(number)) + 1 for number in true_spans(record))
        for group in groups[target].unique():
            start = int((groups < group).sum())
            prefixes.append((sequence.ids[:start], groups[:start].tolist()))
            blocks.append(sequence.ids[start : start + way.block])
    total, generator = 0.0, torch.Generator().manual_seed(0)
    order = sorted(range(len(blocks)), key=lambda i: len(prefixes[i][0]))
    for chosen in (order[i : i + rows] for i in range(0, len(order), rows)):
        total += _path(talker, [prefixes[i] for i in chosen], [blocks[i] for i in chosen], way, generator)
    return total / tokens


def _path(talker: Talker, prefixes: list, blocks: list, way: Way, generator: torch.Generator) -> float:
    """Sum over rows of -log p of each block, slots revealed as the policy says, tokens as they are."""
    v, policy, (B, D) = talker.vocabulary, policy_named(way.policy), (len(blocks), way.block)
    longest = max(len(ids) for ids, _ in prefixes)
    commit = torch.tensor([ids + [v.pad] * (longest - len(ids)) for ids, _ in prefixes])  # (B, C)
    groups = torch.tensor([of + [-1] * (longest - len(of)) for _, of in prefixes])  # (B, C)
    context = CachedContext(talker.model, B, v.pad, longest + D, v.classes())
    truth, masked, nats = torch.tensor(blocks), torch.ones(B, D, dtype=torch.bool), 0.0
    for step in itertools.count():
        draft = truth.masked_fill(masked, v.mask).masked_fill(~masked.any(1, keepdim=True), v.pad)  # (B, D)
        logits = context.step(commit, groups, draft)[:, 1:, v.first_code : v.eoa + 1]  # (B, D, A)
        log_p, own = logits.double().log_softmax(-1), truth - v.first_code  # (B, D, A), (B, D)
        for row in masked.any(1).nonzero()[:, 0].tolist():
            noise = torch.rand(D, generator=generator, dtype=torch.float64)
            seen = Draft(masked[row], log_p[row].exp(), own[row], noise, max(1, way.steps - step))
            reveal = policy(seen)  # (D,)
            nats -= log_p[row, reveal, own[row, reveal]].sum().item()
            masked[row] &= ~reveal
        if not masked.any():
            return nats
        commit, groups = commit[:, :0], groups[:, :0]


def words_right(
    talker: Talker, corpus: Corpus, codec: Codec, referee: Referee, records, settings
) -> np.ndarray:
    """Share of words heard right in the reply to each record, (records,)."""
    replies, said = [], []
    for name in dict.fromkeys(record["family"] for record in records):
        some = [record for record in records if record["family"] == name]
        replies += ask(talker, corpus, some, settings).replies
        said += [words_of_reply(corpus, record) for record in some]
    waves = [np.concatenate([talker.sound(codec, span) for span in reply.spans or [[]]]) for reply in replies]
    counts = [word_errors(text, heard) for text, heard in zip(said, referee.transcribe(waves), strict=True)]
    return np.array([max(0, words - errors) / words for errors, words in counts])


def measure_policies(args) -> list[dict]:
    """All ways, on as many records of the held-out splits as asked for."""
    talker, codec, referee = Talker.load(args.talker), Codec.load(args.codec), Referee.load(args.referee)
    corpus = load_corpus(args.data)
    talker.check_codec(codec)
    talker.check_corpus(corpus)
    referee.check_codec(codec)
    found = [family(corpus, split, name) for split in ("renditions", "voices") for name in ("tts", "qa")]
    records = [r for some in itertools.zip_longest(*found) for r in some if r and true_spans(r)][: args.items]
    records.sort(key=lambda record: record["family"])
    asked = [
        [["system", "speak"], *record["messages"][1:-1]] for record in records if record["family"] == "tts"
    ]
    rows, shares = [], []
    for way in (Way(*way) for way in WAYS):
        settings = way.settings(args.temperature)
        seconds, forwards = seconds_per_token(talker, asked[: args.timed], settings, args.now)
        shares.append(words_right(talker, corpus, codec, referee, records, settings))
        nats = forced_nats(talker, corpus, records[:: max(1, len(records) // args.scored)], way)
        row = {"name": way.name, "block": way.block, "steps": way.steps, "policy": way.policy, "nats": nats}
        row |= {"ms_per_token": 1e3 * seconds, "forwards": forwards, "right": float(shares[-1].mean())}
        rows.append(row | {"items": len(records)})
        print(
            f"  {way.name}: {row['ms_per_token']:.2f} ms per audio token, words right {row['right']:.3f}",
            flush=True,
        )
    best = max((r for r in rows if r["policy"] == "random_order"), key=lambda r: r["right"])
    reference = shares[rows.index(best)]
    drawn = np.random.default_rng(0).integers(0, len(records), (2000, len(records)))
    for row, share in zip(rows, shares, strict=True):
        low, high = np.quantile((share - reference)[drawn].mean(1), [0.025, 0.975])
        row |= {"against": best["name"], "difference": float((share - reference).mean())}
        row |= {"low": float(low), "high": float(high)}
    return rows


def show_policies(rows: list[dict]) -> None:
    """Print the table."""
    print(f"\nthe shipped talker, {rows[0]['items']} items; differences are to {rows[0]['against']}")
    print(
        f"{'':36} {'forwards':>8} {'ms':>6} {'of AR':>6} {'2K/B':>5} {'right':>6} {'difference':>24} {'nats':>6}"
    )
    for row in rows:
        nats = (
            "   none"
            if row["nats"] is None
            else f"{row['nats']:6.3f} {'<=' if 'random' in row['policy'] else '='}"
        )
        interval = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        share = row["ms_per_token"] / rows[0]["ms_per_token"]
        print(
            f"{row['name']:36} {row['forwards']:8.2f} {row['ms_per_token']:6.2f} {share:6.2f} "
            f"{2 * row['steps'] / row['block']:5.2f} {row['right']:6.3f} {interval:>24} {nats}"
        )
