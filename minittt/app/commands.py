"""What each command of the command line does."""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import torch

from minittt.codec import Codec, CodecConfig, read_audio, write_audio
from minittt.decoding import Settings
from minittt.errors import MinitttError
from minittt.nar import DenoisingTalker
from minittt.objective import preset
from minittt.settings import (
    CodecTrainingSettings,
    ComputingSettings,
    DecodingOptions,
    EvaluationOptions,
    ModelSizes,
    RefereeSettings,
    SeedOption,
    TrainingSettings,
    samples_folder,
    settings_from,
)
from minittt.talker import Reply, Talker
from minittt.unmasking import Sampling, policy_named

SAMPLES = samples_folder()
AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".aiff", ".mp3"}
MAX_TEXT = 64  # text tokens of a reply
MAX_SPAN = 192  # audio slots of a span: 7.7 s at 25 tokens a second


def _decoding(args, **more) -> Settings:
    """The decoder's settings: what was asked for, with `more` above it."""
    options = settings_from(args, DecodingOptions)
    values = {
        "block_size": options.block,
        "steps": options.steps,
        "policy": policy_named(options.policy),
        "text_sampling": Sampling(0.0),
        "audio_sampling": Sampling(options.temperature),
        "max_text": MAX_TEXT,
        "max_span": MAX_SPAN,
    }
    return Settings(**(values | more))


def _seed(args) -> int:
    return settings_from(args, SeedOption).seed


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
    """Whether a question is a recording; a text too long for a file name is none."""
    if Path(question).suffix.lower() in AUDIO_SUFFIXES:
        return True
    try:
        return Path(question).is_file()
    except OSError:
        return False


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
        for steps in args.compare or [settings_from(args, DecodingOptions).steps]:
            settings = _decoding(args, steps=steps, full_span=_full_span(talker))
            [reply] = talker.converse([[["system", "answer"], ["user", part]]], settings, _seed(args))
            answer = _wave(talker, codec, reply)
            entries.append((question, wave, reply, answer, steps))
            print(f"{question}: {reply}")
    _write_answers(args, codec, entries)
    if args.page:
        _write_page(args, talker, codec, entries)


def _talk_along(args) -> None:
    """Answer one question, writing its sound while it is being made."""
    from minittt.app.streaming import answer_aloud

    if len(args.questions) > 1 or args.page:
        raise MinitttError("--stream answers one question, and makes no page")
    (talker, codec), [question] = _load(args), args.questions
    wave = read_audio(question, codec.config.sample_rate) if _is_audio(question) else None
    asked = [["system", "answer"], ["user", question if wave is None else talker.listen(codec, wave)]]
    settings = _decoding(args, first_block=args.first_block, full_span=_full_span(talker))
    reply, pace = answer_aloud(talker, codec, asked, settings, _seed(args), args.output)
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
        path = args.output
        if not single:
            name = Path(question).stem if _is_audio(question) else f"typed_{i + 1}"
            name += "_answer"
            if args.compare:
                name += f"_{steps}_steps"
            path = args.output / f"{name}.wav"
            if path in taken:
                path = path.with_stem(f"{name}_{i + 1}")
        taken.add(path)
        if len(answer):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, answer, codec.config.sample_rate)
            print(f"wrote {path}")


def _title(question: str) -> str:
    return Path(question).name if _is_audio(question) else question


def _write_page(args, talker: Talker, codec: Codec, entries: list) -> None:
    from minittt.app.page import Entry, PageSettings, write_page

    settings = PageSettings(
        talker=args.talker.name, seed=_seed(args), command=shlex.join(["minittt", *args.arguments])
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
    path = SAMPLES / "referee.safetensors"
    if not path.is_file():
        return None
    from minittt.evaluation.referee import Referee

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
    settings = _decoding(args, full_span=_full_span(talker))
    [reply] = talker.converse([[["system", "speak"], ["user", args.text]]], settings, _seed(args))
    if not any(reply.spans):
        raise MinitttError("the talker said nothing to this text: it knows number words, plus, minus, equals")
    write_audio(args.output, _wave(talker, codec, reply), codec.config.sample_rate)
    print(f"wrote {args.output} ({sum(map(len, reply.spans))} audio tokens, {reply.nfe} forwards)")


def train(args) -> None:
    """Train a talker and draw its curves; one process of several where torchrun started it."""
    from minittt.app.plotting import draw_curves
    from minittt.data.corpus import load_corpus
    from minittt.training.parallel import leave_processes
    from minittt.training.trainer import Trainer

    computing = settings_from(args, ComputingSettings)
    if computing.threads is not None:
        torch.set_num_threads(computing.threads)
    asked = settings_from(args, ModelSizes)
    sizes = {}
    if asked.width is not None:
        sizes["d_model"] = asked.width
    if asked.layers is not None:
        sizes["n_layers"] = asked.layers
    settings = settings_from(args, TrainingSettings, model=sizes)
    try:
        trainer = Trainer(load_corpus(args.data), args.output, settings, args.resume)
        first = trainer.world.rank == 0
        if first:
            _say_what_is_trained(trainer)
        trainer.train()
        if first:
            lines = [json.loads(line) for line in (args.output / "log.jsonl").read_text().splitlines()]
            draw_curves(lines).savefig(args.output / "curves.png", dpi=120)
            print(f"wrote {args.output / 'talker.safetensors'} and {args.output / 'curves.png'}")
    finally:
        leave_processes()


def _say_what_is_trained(trainer) -> None:
    if trainer.loader.left_out:
        length = trainer.s.row_length
        print(f"{trainer.loader.left_out} records do not fit a row of {length} tokens: left out")
    parameters = sum(p.numel() for p in trainer.model.parameters())
    print(f"training on {trainer.world.device}, {parameters:,} parameters")


def evaluate(args) -> None:
    """Print the table of scores for one split."""
    from minittt.data.corpus import load_corpus
    from minittt.evaluation.codec_quality import originals
    from minittt.evaluation.evaluate import Evaluation
    from minittt.evaluation.referee import Referee
    from minittt.evaluation.scores import write_scores

    talker, codec = _load(args)
    corpus = load_corpus(args.data)
    settings = _decoding(args, full_span=_full_span(talker))
    referee = Referee.load(args.referee)
    options = settings_from(args, EvaluationOptions)
    evaluation = Evaluation(talker, corpus, codec, referee, options.split, settings, _seed(args))
    corpus.split(options.split)  # names the splits there are, if this is none
    recordings = originals(min(100, options.limit or 100), SAMPLES / "wav")
    for score in evaluation.everything(options.limit, recordings):
        print(score)
    if args.pace:
        print(evaluation.pace())
    if args.json:
        write_scores(args.json, evaluation.scores)


def data(args) -> None:
    """Make a corpus folder: the spoken world, or someone's own recordings."""
    codec = Codec.load(args.codec)
    if args.action == "build":
        from minittt.world.spoken_world import build

        build(args.output, codec, _seed(args))
    else:
        from minittt.world.recordings import import_recordings

        if args.recordings is None:
            raise MinitttError("say which folder to import: minittt data import DIR -o OUT")
        import_recordings(args.recordings, args.output, codec, _seed(args))
    print(f"wrote {args.output}")


def codec(args) -> None:
    """Train a codec, or hear what it keeps of a recording."""
    log = args.output.with_suffix(".jsonl")
    if args.action == "train":
        from minittt.training.codec_training import draw_corpus, read_corpus, train_codec

        settings = settings_from(args, CodecTrainingSettings, config=CodecConfig())
        if args.input is None:
            pairs = draw_corpus(6000, settings.seed)
            licence = "MIT"
        else:
            pairs = read_corpus(args.input, settings.config.sample_rate)
            licence = "unknown"
        train_codec(pairs, settings, args.output, log, licence=licence)
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
    from minittt.evaluation.referee_training import train_referee

    settings = settings_from(args, RefereeSettings)
    train_referee(settings, args.output, args.output.with_suffix(".jsonl"), codec=args.codec)
