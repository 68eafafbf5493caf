"""Training the referee, separately from all it will judge: voices nobody else has, original sound.

The voice judge knows the four reply voices, as they are and, given a codec, as they come out of it: there a
mistake of the judge would look like a mistake of the talker.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from minittt.codec import Codec, whole_file
from minittt.errors import MinitttError
from minittt.evaluation.referee import (
    HOP,
    WINDOW,
    Recogniser,
    Referee,
    VoiceJudge,
    level_one,
    log_power,
    loud_windows,
)
from minittt.evaluation.referee_sounds import (
    decode_rows,
    disturb_features,
    disturb_wave,
    replies,
    requantise,
    resynthesise,
    smear,
    splice,
    utterance,
)
from minittt.evaluation.scores import word_errors
from minittt.files import json_text, locked_file
from minittt.settings import RefereeSettings
from minittt.world import lexicon
from minittt.world.lexicon import ALL_WORDS, REFEREE, REPLY, UNSEEN
from minittt.world.synthesis import SAMPLE_RATE, say
from minittt.world.users import Users, listened, take_of

OTHERS = 0.5  # share of utterances that are drawn from all users, if there are any

# --- the recogniser


def recogniser_batches(
    settings: RefereeSettings, rng: np.random.Generator, users: Users | None = None
) -> Iterator[tuple[list[np.ndarray], list[str]]]:
    """Endless batches of disturbed waves of similar length, with their words.

    users: a share OTHERS of all utterances is by their other makes and people, as microphones hear them.
    """
    pool = []
    for _ in tqdm(range(settings.utterances), desc="synthesis", mininterval=2):
        if users is not None and rng.random() < OTHERS:
            said = users.draw(rng)
            heard, _ = listened(said.wave, rng)
            pool.append((heard, said.text))
        else:
            pool.append(utterance(rng, REFEREE))
    pool = [(wave.astype(np.float16), text) for wave, text in pool]
    lengths = np.array([len(wave) for wave, _ in pool])
    while True:
        order = np.argsort(lengths * rng.uniform(0.9, 1.1, len(pool)))
        starts = rng.permutation(np.arange(0, len(pool) - settings.batch + 1, settings.batch))
        for start in starts:
            rows = [pool[i] for i in order[start : start + settings.batch]]
            yield [disturb_wave(wave.astype(np.float32), rng) for wave, _ in rows], [text for _, text in rows]


def ctc_loss(recogniser: Recogniser, waves: list[np.ndarray], texts: list[str]) -> Tensor:
    """Nats per word of a disturbed batch."""
    samples = torch.tensor([len(wave) for wave in waves])
    rows = pad_sequence([level_one(torch.from_numpy(wave)) for wave in waves], batch_first=True)
    rows = rows.to(recogniser.head.weight.device)  # (B, samples)
    features = disturb_features(requantise(log_power(smear(recogniser.mel(rows)))))  # (B, T, bands)
    logits, frames = recogniser(features, recogniser.frames(samples))
    words = [[1 + ALL_WORDS.index(word) for word in text.split()] for text in texts]
    counts = torch.tensor([len(row) for row in words])
    targets = torch.tensor([word for row in words for word in row])
    log_probs = logits.log_softmax(-1).transpose(0, 1)  # (T / 4, B, 1 + words)
    # this loss is small and not every device has it: it is computed on the CPU
    log_probs = log_probs.cpu()
    frames = frames.cpu()
    total = nn.functional.ctc_loss(log_probs, targets, frames, counts, reduction="sum", zero_infinity=True)
    return total / counts.sum()


def train_recogniser(
    recogniser: Recogniser, settings: RefereeSettings, note: Callable, users: Users | None = None
) -> None:
    """Train in place; `note` receives each line of the log."""
    torch.manual_seed(settings.seed)
    batches = recogniser_batches(settings, np.random.default_rng(settings.seed), users)

    def loss() -> Tensor:
        """Of the next batch."""
        return ctc_loss(recogniser, *next(batches))

    descend(recogniser, loss, settings.steps, settings.learning_rate, note)


def descend(
    model: nn.Module, loss: Callable[[], Tensor], steps: int, learning_rate: float, note: Callable
) -> None:
    """AdamW with a warm-up and a cosine; the model is left in evaluation mode."""
    name = type(model).__name__
    optimiser = torch.optim.AdamW(model.train().parameters(), learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, steps, pct_start=0.08)
    started = time.time()
    mean = None  # of the loss, over about the last fifty steps
    progress = tqdm(range(1, steps + 1), desc=name, mininterval=2)
    for step in progress:
        value = loss()
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        if mean is None:
            mean = value.item()
        mean = 0.98 * mean + 0.02 * value.item()
        progress.set_postfix(loss=f"{mean:.4f}")
        if step % 250 == 0 or step == steps:
            seconds = round(time.time() - started, 1)
            note({"part": name, "step": step, "loss": round(mean, 5), "seconds": seconds})
    model.eval()


# --- the voice judge


def voice_windows(
    settings: RefereeSettings, codec: Codec | None, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Windows (N, window) of replies, as they are and through the codec, and their voices (N,)."""
    windows, labels = [], []
    for _ in tqdm(range(settings.voice_sentences), desc="reply voices", mininterval=2):
        waves = replies(rng)
        for heard in (waves,) if codec is None else (waves, resynthesise(codec, waves)):
            for label, wave in enumerate(heard):
                shift = int(rng.integers(HOP))
                windows.append(loud_windows(wave[shift:], WINDOW, HOP).half())
                labels.append(torch.full((len(windows[-1]),), label))
    return torch.cat(windows), torch.cat(labels)


def judge_loss(judge: VoiceJudge, windows: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of noisy, smeared windows (N, window)."""
    waves = level_one(windows.float())
    white = torch.randn_like(waves)
    decibels = 10 + 40 * torch.rand(len(waves), 1).to(waves)  # of the signal over the noise
    waves = waves + white * 10 ** (-decibels / 20)
    power = smear(judge.mel(level_one(waves)))
    return nn.functional.cross_entropy(judge(power), labels)


def train_judge(judge: VoiceJudge, settings: RefereeSettings, codec: Codec | None, note: Callable) -> None:
    """Train in place; `note` receives each line of the log."""
    torch.manual_seed(settings.seed + 1)
    windows, labels = voice_windows(settings, codec, np.random.default_rng(settings.seed + 1))

    def loss() -> Tensor:
        """Of windows that are drawn anew."""
        rows = torch.randint(len(labels), (settings.voice_batch,))
        device = judge.head.weight.device
        return judge_loss(judge, windows[rows].to(device), labels[rows].to(device))

    descend(judge, loss, settings.voice_steps, 3e-3, note)


# --- how well they do


def word_scores(
    referee: Referee, settings: RefereeSettings, codec: Codec | None, held_out: Users | None = None
) -> Iterator[dict]:
    """Word error rates on the spoken world's sentences, for voices the recogniser never heard.

    held_out: other makes of voices, tested as well if given.
    """
    groups = {}
    for group, voices in (("unseen", UNSEEN), ("reply", REPLY)):
        rng = np.random.default_rng(settings.seed + 2)
        texts = [lexicon.draw_sentence(rng) for _ in range(settings.test_utterances)]
        waves = [say(t, voices[i % len(voices)], int(rng.integers(150, 201))) for i, t in enumerate(texts)]
        groups[group] = (texts, waves)
    if held_out is not None:
        rows = held_out.recorded
        groups["other makes"] = ([row["text"] for row in rows], [take_of(row["file"]) for row in rows])
    for group, (texts, waves) in groups.items():
        sounds = {"original": waves}
        if codec is not None:
            sounds["codec"] = [resynthesise(codec, wave[None])[0] for wave in waves]
        for sound_of, heard in sounds.items():
            said = referee.transcribe(heard)
            line: dict[str, Any] = {
                "part": "words",
                "voices": group,
                "sound": sound_of,
                "utterances": len(texts),
            }
            errors = 0
            words = 0
            for text, transcript in zip(texts, said, strict=True):
                wrong, total = word_errors(text, transcript)
                errors += wrong
                words += total
            yield {**line, "words": words, "wer": round(errors / words, 5)}


def voice_scores(referee: Referee, settings: RefereeSettings, codec: Codec | None) -> Iterator[dict]:
    """Coherence of whole utterances, and of utterances whose voice is drawn anew every 1, 8 or 16 tokens."""
    rng = np.random.default_rng(settings.seed + 3)
    originals = [replies(rng) for _ in range(settings.test_utterances // len(REPLY))]
    sounds = {"original": originals}
    if codec is not None:
        sounds["codec"] = [codec.encode(torch.from_numpy(rows))[:, 0].numpy() for rows in originals]
    for sound_of, groups in sounds.items():
        width = HOP if sound_of == "original" else 1  # columns per token
        for block in (None, 16, 8, 1):
            mixed = [
                np.stack([splice(rows, block * width, rng) for _ in rows]) if block else rows
                for rows in groups
            ]
            waves = [wave for rows in mixed for wave in (rows if width > 1 else decode_rows(codec, rows))]
            line: dict[str, Any] = {
                "part": "voices",
                "sound": sound_of,
                "redrawn every": block,
                "utterances": len(waves),
            }
            line["coherence"] = round(float(np.mean([referee.voice_coherence(wave) for wave in waves])), 4)
            if block is None:
                right = [referee.voice_of(wave) == i % len(REPLY) for i, wave in enumerate(waves)]
                line["right voice"] = round(float(np.mean(right)), 4)
            yield line


def load_codec(path: str | Path) -> Codec:
    """The talker's codec. MinitttError unless it has the referee's sample rate and one codebook."""
    codec = Codec.load(path).eval()
    if (codec.config.sample_rate, codec.config.n_codebooks) != (SAMPLE_RATE, 1):
        raise MinitttError(
            f"{path}: wanted a codec at {SAMPLE_RATE} Hz with one codebook, not {codec.config}"
        )
    return codec


def train_referee(
    settings: RefereeSettings,
    out: str | Path,
    log: str | Path,
    codec: str | Path | None = None,
    keep: str | Path | None = None,
    users: Users | None = None,
    held_out: Users | None = None,
    licence: str = "unknown",
    device: torch.device | None = None,
) -> Referee:
    """Train both networks, write them to `out`, and a line of JSON per event to `log`, the test scores last.

    codec: path of a trained codec; without it the voice judge knows original sound only.
    users: other makes of voices, and people, for the recogniser. held_out: voices of other makes that test it.
    licence: of the referee, if it hears other voices than espeak-ng's.
    keep: path of a referee whose recogniser is kept unchanged: a new codec outdates only the judge.
    device: where both are trained (default: the CPU).
    The same settings and codec give the same file. Raises MinitttError if another process trains a referee into `out`.
    """
    with locked_file(out):
        return _train(
            settings, out, log, codec, keep, users, held_out, licence, device or torch.device("cpu")
        )


def _train(
    settings: RefereeSettings,
    out: str | Path,
    log: str | Path,
    codec: str | Path | None,
    keep: str | Path | None,
    users: Users | None,
    held_out: Users | None,
    licence: str,
    device: torch.device,
) -> Referee:
    """As `train_referee`, which has locked `out`."""
    through = None if codec is None else load_codec(codec).to(device)
    torch.set_flush_denormal(True)
    torch.manual_seed(settings.seed)
    referee = Referee(info={"licence": "MIT", "heard": ["formant"]})
    if users is not None:
        referee.info = {"licence": licence, "heard": users.kinds()}
    if keep is not None:
        referee.recogniser = Referee.load(keep).recogniser
    referee.to(device)
    with whole_file(log) as unfinished, unfinished.open("w", encoding="utf-8") as file:

        def note(line: dict) -> None:
            """Log a line, to be read while the training goes on."""
            file.write(json_text(line) + "\n")
            file.flush()

        fingerprint = None if through is None else through.fingerprint()
        note({"settings": asdict(settings), "codec": fingerprint, "recogniser kept": keep is not None})
        if keep is None:
            train_recogniser(referee.recogniser, settings, note, users)
        train_judge(referee.judge, settings, through, note)
        referee.save(out)
        referee = Referee.load(out).to(device)  # what is tested is what was written, in half precision
        words = word_scores(referee, settings, through, held_out)
        for line in (*words, *voice_scores(referee, settings, through)):
            note(line)
    return referee
