"""A conversation in the terminal: several turns, spoken, from files or typed.

The shipped talkers were taught conversations of two turns only where the second asks to hear the answer again. They answer
any other question worse with an earlier turn in view than alone, so it is asked alone unless you say otherwise.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from minittt.app import typed
from minittt.codec import Codec, CodecError, read_audio, write_audio
from minittt.decoding import Settings
from minittt.errors import MinitttError
from minittt.files import remove
from minittt.talker import Reply, Talker

AGAIN = "say again"  # when typed, the talker is shown the previous turn
EXAMPLES = (
    ("what is two plus three", "a sum or a difference of digits, however it is asked: 2+3, two plus three"),
    ("count from three to nine", "counting, up to twenty"),
    ("say seven two nine", "numbers, to hear them again"),
    (AGAIN, "after an answer"),
)
LONGEST = 8.0  # seconds of a recording from the microphone


def examples(words: Iterable[str] | None) -> str:
    """What may be asked, one example per line, as far as the talker was taught the words."""
    known = set(words or [])
    lines = []
    for question, what in EXAMPLES:
        if set(question.split()) <= known:
            lines.append(f"{question:<28} {what}")
    return "\n".join(lines) or "this talker does not say which words it was taught"


class Conversation:
    """Questions and replies so far. Each reply is drawn with the next seed; with `remember`, each sees the previous turn."""

    def __init__(
        self, talker: Talker, codec: Codec, settings: Settings, seed: int = 0, remember: bool = False
    ) -> None:
        self.talker = talker
        self.codec = codec
        self.settings = settings
        self.seed = seed
        self.remember = remember
        self.turns: list[tuple[list, list]] = []  # (what the user said, what was answered), as messages

    def ask(self, part: str | list[int]) -> Reply:
        """The reply to a question: text, or codes that were heard."""
        asked = ["user", part]
        before: list[list] = []
        if self.turns and (self.remember or part == AGAIN):
            before = list(self.turns[-1])
        [reply] = self.talker.converse([[["system", "answer"], *before, asked]], self.settings, self.seed)
        self.seed += 1
        self.turns.append((asked, ["assistant", *parts_of(reply, self.talker)]))
        return reply

    def hear(self, question: str) -> str | list[int]:
        """A typed line as a message part: a file is listened to, anything else is text."""
        if typed.is_audio(question):
            return self.talker.listen(self.codec, read_audio(Path(question), self.codec.config.sample_rate))
        return typed.question(question, self.talker.words)


def parts_of(reply: Reply, talker: Talker) -> list[str | list[int]]:
    """A reply as the parts of a message: its text and its spans, in order."""
    v = talker.vocabulary
    parts: list[str | list[int]] = []
    pieces: list[int] = []
    span: list[int] | None = None
    for token in reply.ids:
        if token < v.text_size:
            pieces.append(token)
        elif token == v.open:
            if pieces:
                parts.append(talker.tokeniser.decode(pieces))
            pieces = []
            span = []
        elif v.first_code <= token < v.eoa and span is not None:
            span.append(token - v.first_code)
        elif token == v.eoa and span is not None:
            parts.append(span)
            span = None  # what follows is filler
    if pieces:
        parts.append(talker.tokeniser.decode(pieces))
    return parts


def microphone() -> Callable[[int], np.ndarray] | None:
    """Records from the microphone until Enter, at a rate in Hz -> (samples,) float32; None without `sounddevice`."""
    try:
        import sounddevice
    except (ImportError, OSError):  # OSError: PortAudio is missing
        return None

    def record(rate: int) -> np.ndarray:
        """Listen until Enter: (samples,) at `rate` Hz."""
        wave = sounddevice.rec(int(LONGEST * rate), rate, channels=1, dtype="float32")
        print(f"listening; Enter when you have said it ({LONGEST:g} s at most)", file=sys.stderr)
        sys.stdin.readline()
        sounddevice.stop()
        return wave[:, 0]

    return record


def chat(
    conversation: Conversation,
    lines: Iterable[str],
    out: Path | None,
    describe: Callable[[Reply], str],
    sound: Callable[[Reply], np.ndarray],
) -> None:
    """Answer line after line until there are no more, or "quit". A bad line gets a message, and the conversation goes on.

    An empty line listens to the microphone. out: a folder for the sound of the answers. describe, sound: these give the
    description and the sound of a reply.
    """
    record = microphone()
    rate = conversation.codec.config.sample_rate
    number = 0
    for line in lines:
        question = line.strip()
        if question == "quit":
            return
        try:
            if question:
                part = conversation.hear(question)
            elif record is not None:
                part = conversation.talker.listen(conversation.codec, record(rate))
            else:
                print(
                    "type a question, or name an audio file (the microphone needs: pip install 'minittt[microphone]')"
                )
                continue
            reply = conversation.ask(part)
        except (MinitttError, CodecError) as error:
            print(error)
            continue
        number += 1
        print(describe(reply))
        if out is not None:
            _write(out / f"answer_{number}.wav", sound(reply), rate)


def _write(path: Path, wave: np.ndarray, rate: int) -> None:
    """Write an answer (samples,); if nothing was said, say so and leave no older answer under its name."""
    if len(wave):
        write_audio(path, wave, rate)
        print(f"wrote {path}")
        return
    remove(path)
    print("warning: nothing was said", file=sys.stderr)
