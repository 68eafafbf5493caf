"""What each command of the command line does."""

import dataclasses
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import torch

from minittt.cli import AUDIO_SUFFIXES, TRAINING_FLAGS, TRAINING_NUMBERS, overrides
from minittt.codec import Codec, read_audio, write_audio
from minittt.decoding import Settings
from minittt.errors import MinitttError
from minittt.nar import DenoisingTalker
from minittt.objective import preset
from minittt.talker import Reply, Talker
from minittt.unmasking import Sampling, policy_named


def _settings(args, **more) -> Settings:
    try:
        values = {"block_size": args.block, "steps": args.steps, "policy": policy_named(args.policy)}
        values |= {
            "text_sampling": Sampling(0.0),
            "audio_sampling": Sampling(args.temperature),
            "max_text": 64,
            "max_span": 192,
        }
        return Settings(**{**values, **more})
    except ValueError as error:
        raise MinitttError(str(error)) from error


def _load(args) -> tuple[Talker, Codec]:
    talker, codec = Talker.load(args.talker), Codec.load(args.codec)
    talker.check_codec(codec)
    if preset(talker.info["training"]["preset"]).denoise_text:
        if getattr(args, "stream", False):
            raise MinitttError(
                "this talker denoises its text too: it has nothing to say before the reply is whole"
            )
        talker = DenoisingTalker(talker.model, talker.vocabulary, talker.tokeniser, talker.info)
    return talker, codec


def _is_audio(question: str) -> bool:
    return Path(question).suffix.lower() in AUDIO_SUFFIXES or Path(question).is_file()


def talk(args) -> None:
    """Answer each question in text and speech; write WAVs and, if asked, a page."""
    if args.compare and not args.page:
        raise MinitttError("--compare shows its replies on a page: add --page reply.html")
    if args.stream:
        return _talk_along(args)
    talker, codec = _load(args)
    heard = [read_audio(q, codec.config.sample_rate) if _is_audio(q) else None for q in args.questions]
    entries = []
    for question, wave in zip(args.questions, heard, strict=True):
        part = question if wave is None else talker.listen(codec, wave)
        for steps in args.compare or [args.steps]:
            settings = _settings(args, steps=steps, full_span=_full_span(talker))
            [reply] = talker.converse([[["system", "answer"], ["user", part]]], settings, args.seed)
            answer = _wave(talker, codec, reply)
            entries.append((question, wave, reply, answer, steps))
            print(f"{question}: {reply}")
    _write_answers(args, codec, entries)
    if args.page:
        _write_page(args, talker, codec, entries)


def _talk_along(args) -> None:
    """Answer one question, writing its sound while it is being made."""
    from minittt.streaming import answer_aloud

    if len(args.questions) > 1 or args.page:
        raise MinitttError("--stream answers one question, and makes no page")
    (talker, codec), [question] = _load(args), args.questions
    wave = read_audio(question, codec.config.sample_rate) if _is_audio(question) else None
    asked = [["system", "answer"], ["user", question if wave is None else talker.listen(codec, wave)]]
    settings = _settings(args, first_block=args.first_block, full_span=_full_span(talker))
    reply, pace = answer_aloud(talker, codec, asked, settings, args.seed, args.output)
    print(f"{question}: {reply}\n{pace}", file=sys.stderr if args.output == Path("-") else None)


def _full_span(talker: Talker) -> bool:
    return not preset(talker.info["training"]["preset"]).two_streams


def _wave(talker: Talker, codec: Codec, reply: Reply) -> np.ndarray:
    waves = [talker.sound(codec, span) for span in reply.spans]
    return np.concatenate(waves) if waves else np.zeros(0, np.float32)


def _write_answers(args, codec: Codec, entries: list) -> None:
    if args.output is None:
        return
    single = len(entries) == 1 and args.output.suffix.lower() == ".wav"
    if not single and args.output.suffix.lower() == ".wav":
        raise MinitttError(f"{len(entries)} answers do not fit one file: give -o a folder")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    taken: set[Path] = set()
    for i, (question, _, _, answer, steps) in enumerate(entries):
        name = Path(question).stem if _is_audio(question) else f"typed_{i + 1}"
        path = args.output
        if not single:
            path = args.output / f"{name}_answer{f'_{steps}_steps' if args.compare else ''}.wav"
            path = path if path not in taken else path.with_stem(f"{path.stem}_{i + 1}")
        taken.add(path)
        if len(answer):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, answer, codec.config.sample_rate)
            print(f"wrote {path}")


def _title(question: str) -> str:
    return Path(question).name if _is_audio(question) else question


def _write_page(args, talker: Talker, codec: Codec, entries: list) -> None:
    from minittt.page import Entry, PageSettings, write_page

    settings = PageSettings(
        talker=args.talker.name, seed=args.seed, command=shlex.join(["minittt", *args.arguments])
    )
    coherence = _coherence()
    made = [
        Entry(
            title=_title(question)
            if len(args.compare or []) < 2
            else f"{_title(question)}, {steps} steps per block",
            question_wave=wave,
            question_text=None if wave is not None else question,
            reply=reply,
            reply_wave=answer,
            sample_rate=codec.config.sample_rate,
            coherence=coherence(answer) if coherence and len(answer) else None,
            steps=steps,
        )
        for question, wave, reply, answer, steps in entries
    ]
    args.page.parent.mkdir(parents=True, exist_ok=True)
    write_page(args.page, made, talker, settings)
    print(f"wrote {args.page}")


def _coherence():
    from minittt.cli import SAMPLES

    path = SAMPLES / "referee.safetensors"
    if not path.is_file():
        return None
    from minittt.referee import Referee

    return Referee.load(path).voice_coherence


def _listen_and_write(args, instruction: str) -> None:
    talker, codec = _load(args)
    waves = [read_audio(path, codec.config.sample_rate) for path in args.files]
    conversations = [[["system", instruction], ["user", talker.listen(codec, wave)]] for wave in waves]
    settings = Settings(text_sampling=Sampling(0.0), max_text=64, max_span=16, max_spans=0, block_size=8)
    for path, reply in zip(args.files, talker.converse(conversations, settings), strict=True):
        print(f"{path}: {reply.text}")


def transcribe(args) -> None:
    """Print the words of each recording."""
    _listen_and_write(args, "transcribe")


def caption(args) -> None:
    """Print what each recording is."""
    _listen_and_write(args, "describe")


def speak(args) -> None:
    """Write a text as speech."""
    talker, codec = _load(args)
    settings = _settings(args, full_span=_full_span(talker))
    [reply] = talker.converse([[["system", "speak"], ["user", args.text]]], settings, args.seed)
    if not any(reply.spans):
        raise MinitttError("the talker said nothing to this text: it knows number words, plus, minus, equals")
    write_audio(args.output, _wave(talker, codec, reply), codec.config.sample_rate)
    print(f"wrote {args.output} ({sum(map(len, reply.spans))} audio tokens, {reply.nfe} forwards)")


def train(args) -> None:
    """Train a talker and draw its curves."""
    from minittt.corpus import load_corpus
    from minittt.plotting import draw_curves
    from minittt.training import Trainer, TrainingSettings

    if args.threads:
        torch.set_num_threads(args.threads)
    settings = overrides(
        TrainingSettings(), args, **{name: name for name in (*TRAINING_NUMBERS, *TRAINING_FLAGS)}
    )
    sizes = {"d_model": args.width, "n_layers": args.layers}
    sizes = {name: size for name, size in sizes.items() if size is not None}
    trainer = Trainer(
        load_corpus(args.data), args.output, dataclasses.replace(settings, model=sizes), args.resume
    )
    if trainer.loader.left_out:
        print(f"{trainer.loader.left_out} records do not fit a row of {settings.row_length} tokens: left out")
    print(
        f"training on {trainer.world.device}, {sum(p.numel() for p in trainer.model.parameters()):,} parameters"
    )
    trainer.train()
    lines = [json.loads(line) for line in (args.output / "log.jsonl").read_text().splitlines()]
    draw_curves(lines).savefig(args.output / "curves.png", dpi=120)
    print(f"wrote {args.output / 'talker.safetensors'} and {args.output / 'curves.png'}")


def evaluate(args) -> None:
    """Print the table of scores for one split."""
    from minittt.cli import SAMPLES
    from minittt.codec_quality import originals
    from minittt.corpus import load_corpus
    from minittt.evaluation import Evaluation
    from minittt.referee import Referee
    from minittt.scores import write_scores

    talker, codec = _load(args)
    corpus = load_corpus(args.data)
    settings = _settings(args, full_span=_full_span(talker))
    referee = Referee.load(args.referee)
    evaluation = Evaluation(talker, corpus, codec, referee, args.split, settings, args.seed)
    corpus.split(args.split)  # names the splits there are, if this is none
    for score in evaluation.everything(args.limit, originals(min(100, args.limit or 100), SAMPLES / "wav")):
        print(score)
    if args.pace:
        print(evaluation.pace())
    if args.json:
        write_scores(args.json, evaluation.scores)


def data(args) -> None:
    """Make a corpus folder: the spoken world, or someone's own recordings."""
    codec = Codec.load(args.codec)
    if args.action == "build":
        from minittt.spoken_world import build

        build(args.output, codec, args.seed)
    else:
        from minittt.recordings import import_recordings

        if args.recordings is None:
            raise MinitttError("say which folder to import: minittt data import DIR -o OUT")
        import_recordings(args.recordings, args.output, codec, args.seed)
    print(f"wrote {args.output}")


def codec(args) -> None:
    """Train a codec, or hear what it keeps of a recording."""
    log = args.output.with_suffix(".jsonl")
    if args.action == "train":
        from minittt.codec_training import CodecTrainingSettings, draw_corpus, read_corpus, train_codec

        settings = CodecTrainingSettings(minutes=args.minutes, seed=args.seed)
        rate, folder = settings.config.sample_rate, args.input
        pairs = read_corpus(folder, rate) if folder else draw_corpus(6000, args.seed)
        train_codec(pairs, settings, args.output, log, licence="unknown" if folder else "MIT")
    else:
        _roundtrip(args)
    print(f"wrote {args.output}")


def _roundtrip(args) -> None:
    if args.input is None:
        raise MinitttError("say which recording: minittt codec roundtrip IN.wav -o OUT.wav")
    codec = Codec.load(args.codec)
    wave = read_audio(args.input, codec.config.sample_rate)
    codes = codec.encode(torch.from_numpy(wave)[None])  # (1, K, T)
    write_audio(args.output, codec.decode(codes)[0], codec.config.sample_rate)
    print(f"{codes.numel()} tokens for {len(wave) / codec.config.sample_rate:.2f} s")


def referee(args) -> None:
    """Train the recogniser and the voice judge."""
    from minittt.referee_training import RefereeSettings, train_referee

    train_referee(RefereeSettings(), args.output, args.output.with_suffix(".jsonl"))


def doctor(_args) -> int:
    """Print one line a part; exit code 2 if something needed is missing."""
    from minittt.cli import SAMPLES
    from minittt.doctor import check

    lines = check(SAMPLES)
    for works, needed, part, what in lines:
        print(f"{'ok ' if works else 'NO ' if needed else ' - '} {part:<34} {what}")
    return 0 if all(works or not needed for works, needed, *_ in lines) else 2
