"""The commands that use a talker: talk, chat, serve, transcribe, caption, speak."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from minittt.app import typed
from minittt.app.checks import answer_paths
from minittt.app.options import console, decoding, load, seed_of, shown, use_threads, warn, write_sound
from minittt.codec import Codec, read_audio, whole_file
from minittt.decoding import End
from minittt.errors import MinitttError
from minittt.evaluation.confidence import confidence
from minittt.files import STANDARD_OUTPUT, json_text
from minittt.settings import (
    MAX_TEXT,
    DecodingOptions,
    samples_folder,
    settings_from,
)
from minittt.talker import Reply, Talker, decoding_settings, whole_frames

SAMPLES = samples_folder()
ATTEMPTS = 16  # at each part of a long text, until it is in the voice of the first part: one in four is


def _warn_of_cuts(talker: Talker, question: object, reply: Reply) -> None:
    """Say which parts of a reply were cut off, or are silent."""
    if reply.reason == "limit":
        warn(f"{question}: the text was cut after {MAX_TEXT} tokens")
    ends = [event for event in reply.events if isinstance(event, End)]
    forced = sum(end.forced for end in ends)
    if forced:
        warn(f"{question}: {forced} of {len(reply.spans)} audio spans had no end, and were cut")
    n_codebooks = talker.vocabulary.n_codebooks
    size = talker.vocabulary.codebook_size
    empty = sum(not whole_frames(span, n_codebooks, size) for span in reply.spans)
    if empty and empty < len(reply.spans):
        warn(f"{question}: {empty} of {len(reply.spans)} audio spans are empty")


def _read_question(question: str, codec: Codec) -> np.ndarray | None:
    """The waveform (samples,) of a question that is a recording; None for one that is typed."""
    if typed.is_audio(question):
        return read_audio(question, codec.config.sample_rate)
    return None


def _heard(talker: Talker, codec: Codec, question: str, wave: np.ndarray | None) -> str | list[int]:
    """A question as a message part: its codes, or its text where it is typed."""
    if wave is None:
        return typed.question(question, talker.words)
    return talker.listen(codec, wave)


def talk(args) -> None:
    """Answer each question in text and speech; write WAVs and, if asked, a page."""
    if args.examples:
        from minittt.app.chat import examples

        print(examples(Talker.load(args.talker).words))
        return
    if args.stream:
        return _talk_along(args)
    talker, codec = load(args)
    waves = [_read_question(question, codec) for question in args.questions]
    entries = []
    for question, wave in zip(args.questions, waves, strict=True):
        part = _heard(talker, codec, question, wave)
        for steps in args.compare or [settings_from(args, DecodingOptions).steps]:
            settings = decoding(args, talker, steps)
            [reply] = talker.converse([[["system", "answer"], ["user", part]]], settings, seed_of(args))
            answer = _wave(talker, codec, reply)
            entries.append((question, wave, reply, answer, steps))
            print(f"{shown(question)}: {reply}{_how_sure(talker, reply)}", file=console(args))
            _warn_of_cuts(talker, shown(question), reply)
    _write_answers(args, codec, entries)
    _write_replies(args, talker, [(question, reply) for question, _, reply, _, _ in entries])
    if args.page:
        _write_page(args, talker, codec, entries)


def chat(args) -> None:
    """Several turns in the terminal."""
    from minittt.app.chat import Conversation
    from minittt.app.chat import chat as converse

    talker, codec = load(args)
    conversation = Conversation(talker, codec, decoding(args, talker), seed_of(args), args.remember)
    if sys.stdin.isatty():
        print("type a question or name an audio file; an empty line listens; quit ends")
    converse(
        conversation,
        sys.stdin,
        args.output,
        lambda reply: _described(talker, reply),
        lambda reply: _wave(talker, codec, reply),
    )


def serve(args) -> None:
    """Serve a page in the browser on which you can talk."""
    from minittt.app.serve import serve as open_page

    use_threads(args)
    open_page(args)


def _described(talker: Talker, reply: Reply) -> str:
    """A reply as `chat` prints it; a separate warning says what was cut off."""
    _warn_of_cuts(talker, "this reply", reply)
    return f"{reply}{_how_sure(talker, reply)}"


def _talk_along(args) -> None:
    """Answer one question, writing its sound while it is being made."""
    from minittt.app.streaming import answer_aloud

    talker, codec = load(args)
    [question] = args.questions
    wave = _read_question(question, codec)
    asked = [["system", "answer"], ["user", _heard(talker, codec, question, wave)]]
    settings = decoding(args, talker, first_block=args.first_block)
    reply, pace = answer_aloud(talker, codec, asked, settings, seed_of(args), args.output)
    sure = _how_sure(talker, reply)
    print(f"{shown(question)}: {reply}{sure}\n{pace}", file=console(args))
    _warn_of_cuts(talker, shown(question), reply)
    if not pace.speech and args.output not in (None, STANDARD_OUTPUT):
        write_sound(args.output, np.zeros(0, np.float32), codec, shown(question))
    _write_replies(args, talker, [(question, reply)])


def _how_sure(talker: Talker, reply: Reply) -> str:
    """What is printed after a reply if the talker's header says how to read its certainty, or when to speak at all."""
    chance = confidence(talker.info, reply.certainty)
    sure = "" if chance is None else f"  (confidence {chance:.2f})"
    if reply.guess:
        sure += f"  (too unsure to say: {reply.guess!r}; --guess says it)"
    return sure


def _write_replies(args, talker: Talker, answered: list[tuple[str, Reply]]) -> None:
    """Write questions and replies as JSON if --json names a file."""
    if args.json is None:
        return
    rows = []
    for question, reply in answered:
        chance = confidence(talker.info, reply.certainty)
        rows.append(
            {
                "question": shown(question),
                "text": reply.text,
                "guess": reply.guess,
                "confidence": None if chance is None else round(chance, 4),
                "audio_tokens": sum(map(len, reply.spans)),
                "forwards": reply.nfe,
                "ended_by": reply.reason,
            }
        )
    with whole_file(args.json) as unfinished:
        unfinished.write_text(json_text(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {args.json}", file=sys.stderr)


def _wave(talker: Talker, codec: Codec, reply: Reply) -> np.ndarray:
    """The sound of all spans of a reply, (samples,); none if no span has a code."""
    n_codebooks = codec.config.n_codebooks
    size = codec.config.codebook_size
    if not any(whole_frames(span, n_codebooks, size) for span in reply.spans):
        return np.zeros(0, np.float32)
    waves = [talker.sound(codec, span) for span in reply.spans]
    return np.concatenate(waves)


def _write_answers(args, codec: Codec, entries: list) -> None:
    """Write the sound of each answer to where -o puts it; if nothing was said, no older answer stays there."""
    if args.output is None:
        return
    paths = [STANDARD_OUTPUT] if args.output == STANDARD_OUTPUT else answer_paths(args)
    for path, (question, _, _, answer, _) in zip(paths, entries, strict=True):
        write_sound(path, answer, codec, question)


def _title(question: str) -> str:
    """What a question is called on the page: the name of its file, or its text."""
    return shown(Path(question).name if typed.is_audio(question) else question)


def _write_page(args, talker: Talker, codec: Codec, entries: list) -> None:
    """Write the page of all replies."""
    from minittt.app.page import Entry, PageSettings, write_page

    command = shlex.join(["minittt", *args.arguments])
    settings = PageSettings(talker=args.talker.name, seed=seed_of(args), command=command)
    measure_coherence = _coherence()
    compares_steps = len(args.compare or []) > 1
    if compares_steps:
        settings.heading = "A reply, denoised in fewer and in more steps"
    on_page = []
    for question, wave, reply, answer, steps in entries:
        title = _title(question)
        if compares_steps:
            title += f", {steps} steps per block"
        coherence = None
        if measure_coherence is not None and len(answer):
            coherence = measure_coherence(answer)
        entry = Entry(
            title=title,
            question_wave=wave,
            question_text=question if wave is None else None,
            reply=reply,
            reply_wave=answer,
            sample_rate=codec.config.sample_rate,
            coherence=coherence,
            steps=steps,
            confidence=confidence(talker.info, reply.certainty),
        )
        on_page.append(entry)
    write_page(args.page, on_page, talker, settings)
    print(f"wrote {args.page}", file=console(args))


def _referee():
    """The shipped referee, or None where it is not there."""
    path = SAMPLES / "referee.safetensors"
    if not path.is_file():
        return None
    from minittt.evaluation.referee import Referee

    return Referee.load(path)


def _coherence() -> Callable[[np.ndarray], float] | None:
    """The referee's measure of voice coherence, or None where there is no referee."""
    judge = _referee()
    return None if judge is None else judge.voice_coherence


def _voice_judge() -> Callable[[np.ndarray], int] | None:
    """Which of the reply voices speaks in a wave (samples,), by the referee; None where there is none."""
    judge = _referee()
    return None if judge is None else judge.voice_of


def _listen_and_write(args, instruction: str) -> None:
    talker, codec = load(args)
    conversations = []
    for path in args.files:  # one at a time: codes are small, recordings are not
        heard = talker.listen(codec, read_audio(path, codec.config.sample_rate))
        conversations.append([["system", instruction], ["user", heard]])
    settings = replace(decoding_settings(), max_spans=0)  # text only
    replies = talker.converse(conversations, settings)
    for path, reply in zip(args.files, replies, strict=True):
        print(f"{shown(path)}: {reply.text}{_how_sure(talker, reply)}")
        if reply.reason == "limit":
            warn(f"{shown(path)}: the text was cut after {MAX_TEXT} tokens")
    _write_replies(args, talker, list(zip(args.files, replies, strict=True)))


def transcribe(args) -> None:
    """Print the words of each recording."""
    _listen_and_write(args, "transcribe")


def caption(args) -> None:
    """Print what each recording is."""
    _listen_and_write(args, "describe")


def speak(args) -> None:
    """Write a text as speech, a long one part by part in one voice."""
    talker, codec = load(args)
    settings = decoding(args, talker)
    text = typed.sentence(args.text, talker.words)
    parts = [text]
    if typed.knows_numbers(talker.words):
        parts = typed.pieces(text)
    voice_of = _voice_judge()
    waves = []
    n_tokens = 0
    n_forwards = 0
    for part in parts:
        for attempt in range(ATTEMPTS):
            [reply] = talker.converse(
                [[["system", "speak"], ["user", part]]], settings, seed_of(args) + attempt
            )
            wave = _wave(talker, codec, reply)
            n_forwards += reply.nfe
            if not waves or voice_of is None or voice_of(wave) == voice_of(waves[0]):
                break
        if not len(wave):
            raise MinitttError(f"the talker said nothing to {part!r}: try another --seed")
        _warn_of_cuts(talker, repr(part), reply)
        waves.append(wave)
        n_tokens += sum(map(len, reply.spans))
    write_sound(args.output, np.concatenate(waves), codec, args.text)
    in_parts = f"{len(parts)} parts, " if len(parts) > 1 else ""
    print(f"{in_parts}{n_tokens} audio tokens, {n_forwards} forwards", file=console(args))
