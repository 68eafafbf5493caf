"""What each command of the command line does."""

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from minittt.app import typed
from minittt.app.checks import answer_paths
from minittt.app.shipped import codec_for, corpus_for
from minittt.app.streaming import write_wav_to
from minittt.codec import LONGEST_IN_PIECES, Codec, CodecConfig, read_audio, whole_file, write_audio
from minittt.data.corpus import Corpus, load_corpus, mixed
from minittt.data.headers import UNKNOWN
from minittt.data.tokenisers import Tokeniser, load_tokeniser
from minittt.decoding import End, Settings
from minittt.device import device_named
from minittt.errors import MinitttError
from minittt.evaluation.confidence import confidence
from minittt.files import STANDARD_OUTPUT, json_text, locked, locked_file, remove, writable_text
from minittt.model import ModelConfig
from minittt.nar import DenoisingTalker
from minittt.objective import preset
from minittt.settings import (
    MAX_TEXT,
    AdaptOptions,
    CodecTrainingSettings,
    ComputingSettings,
    DecodingOptions,
    DeviceOption,
    EncodeOptions,
    EvaluationOptions,
    ImportOptions,
    MixOptions,
    ModelSizes,
    RecordOptions,
    RefereeSettings,
    SeedOption,
    TimeOption,
    TrainingSettings,
    samples_folder,
    settings_from,
)
from minittt.talker import Reply, Talker, decoding_settings, whole_frames
from minittt.unmasking import policy_named

SAMPLES = samples_folder()
ATTEMPTS = 16  # at the parts of a long text, until one is in the voice of the first: one in four is


def _decoding(args, talker: Talker, steps: int | None = None, first_block: int | None = None) -> Settings:
    """The decoder's settings: the options of the command line, and the way this talker was trained to speak."""
    options = settings_from(args, DecodingOptions)
    if steps is None:
        steps = options.steps
    block = _block(args, talker, options.block)
    if first_block is not None and first_block >= block:
        raise MinitttError(f"--first-block must be smaller than a block, {block} slots, not {first_block}")
    if getattr(args, "steps", None) is not None and steps > block:
        warn(f"--steps {steps} is more than a block of {block} slots can use: {block} steps are taken")
    return decoding_settings(
        block,
        steps,
        options.temperature,
        full_span=not preset(talker.info["training"]["preset"]).two_streams,
        policy=policy_named(options.policy),
        first_block=first_block,
    )


def _block(args, talker: Talker, block: int) -> int:
    """The block size to decode with: the one asked for, with a warning where this talker was not trained for it.

    Where none is asked for and the default was not trained, it is the largest that was.
    """
    trained = [size for size in talker.info.get("block_sizes") or [] if size is not None]
    if not trained or block in trained:
        return block
    if args.block is None:
        return max(trained)
    known = ", ".join(map(str, trained))
    warn(
        f"this talker was trained for blocks of {known}, not {block}: its speech may be worse than with one of these"
    )
    return block


def warn(message: str) -> None:
    """One line on standard error: the result may be wrong, or is not all that was asked for."""
    print(f"warning: {message}", file=sys.stderr)


def _warn_of_cuts(talker: Talker, question: object, reply: Reply) -> None:
    """Say what of a reply was cut off, or is silence."""
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


def _seed(args) -> int:
    return settings_from(args, SeedOption).seed


def _licence(args) -> str:
    """Of the recordings that a command reads."""
    return args.licence or UNKNOWN


def _use_threads(args) -> None:
    """As many CPU threads as --threads says."""
    threads = settings_from(args, ComputingSettings).threads
    if threads is not None:
        torch.set_num_threads(threads)


def _device(args) -> torch.device:
    """The device that --device names."""
    return device_named(_device_name(args))


def _device_name(args) -> str:
    return settings_from(args, DeviceOption).device


def _load(args) -> tuple[Talker, Codec]:
    """The talker and its codec, as the options name them, on the device that they name."""
    device = _device(args)
    talker = Talker.load(args.talker).to(device)
    codec = codec_for(talker, args.codec).to(device)
    if preset(talker.info["training"]["preset"]).denoise_text:
        if getattr(args, "stream", False):
            raise MinitttError(
                "this talker denoises its text too: it has nothing to say before the reply is whole"
            )
        talker = DenoisingTalker(talker.model, talker.vocabulary, talker.tokeniser, talker.info)
    return talker, codec


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
    talker, codec = _load(args)
    waves = [_read_question(question, codec) for question in args.questions]
    entries = []
    for question, wave in zip(args.questions, waves, strict=True):
        part = _heard(talker, codec, question, wave)
        for steps in args.compare or [settings_from(args, DecodingOptions).steps]:
            settings = _decoding(args, talker, steps)
            [reply] = talker.converse([[["system", "answer"], ["user", part]]], settings, _seed(args))
            answer = _wave(talker, codec, reply)
            entries.append((question, wave, reply, answer, steps))
            print(f"{_shown(question)}: {reply}{_how_sure(talker, reply)}", file=_console(args))
            _warn_of_cuts(talker, _shown(question), reply)
    _write_answers(args, codec, entries)
    _write_replies(args, talker, [(question, reply) for question, _, reply, _, _ in entries])
    if args.page:
        _write_page(args, talker, codec, entries)


def chat(args) -> None:
    """Several turns in the terminal."""
    from minittt.app.chat import Conversation
    from minittt.app.chat import chat as converse

    talker, codec = _load(args)
    conversation = Conversation(talker, codec, _decoding(args, talker), _seed(args), args.remember)
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
    """A page in the browser on which one talks."""
    from minittt.app.serve import serve as open_page

    _use_threads(args)
    open_page(args)


def _described(talker: Talker, reply: Reply) -> str:
    """A reply as `chat` prints it; what of it was cut is told besides."""
    _warn_of_cuts(talker, "this reply", reply)
    return f"{reply}{_how_sure(talker, reply)}"


def _talk_along(args) -> None:
    """Answer one question, writing its sound while it is being made."""
    from minittt.app.streaming import answer_aloud

    talker, codec = _load(args)
    [question] = args.questions
    wave = _read_question(question, codec)
    asked = [["system", "answer"], ["user", _heard(talker, codec, question, wave)]]
    settings = _decoding(args, talker, first_block=args.first_block)
    reply, pace = answer_aloud(talker, codec, asked, settings, _seed(args), args.output)
    sure = _how_sure(talker, reply)
    print(f"{_shown(question)}: {reply}{sure}\n{pace}", file=_console(args))
    _warn_of_cuts(talker, _shown(question), reply)
    if not pace.speech and args.output not in (None, STANDARD_OUTPUT):
        _write_sound(args.output, np.zeros(0, np.float32), codec, _shown(question))
    _write_replies(args, talker, [(question, reply)])


def _console(args):
    """Where text goes: standard error while standard output belongs to the samples."""
    return sys.stderr if args.output == STANDARD_OUTPUT else sys.stdout


def _shown(question: object) -> str:
    """A question or a file's name, as every terminal and file can hold it."""
    return writable_text(str(question))


def _how_sure(talker: Talker, reply: Reply) -> str:
    """What follows a reply where the talker's header says how its certainty is to be read."""
    chance = confidence(talker.info, reply.certainty)
    return "" if chance is None else f"  (confidence {chance:.2f})"


def _write_replies(args, talker: Talker, answered: list[tuple[str, Reply]]) -> None:
    """Write questions and replies as JSON, where --json names a file."""
    if args.json is None:
        return
    rows = []
    for question, reply in answered:
        chance = confidence(talker.info, reply.certainty)
        rows.append(
            {
                "question": _shown(question),
                "text": reply.text,
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
    """Write the sound of each answer to the place that -o gives it; where nothing was said, no older answer stays there."""
    if args.output is None:
        return
    paths = [STANDARD_OUTPUT] if args.output == STANDARD_OUTPUT else answer_paths(args)
    for path, (question, _, _, answer, _) in zip(paths, entries, strict=True):
        _write_sound(path, answer, codec, question)


def _write_sound(path: Path, wave: np.ndarray, codec: Codec, what: str) -> None:
    """Write one sound (samples,), to a file or as WAV to standard output; without samples, say so and leave no older one."""
    if not len(wave):
        gone = path != STANDARD_OUTPUT and remove(path)
        warn(f"{what}: nothing was said" + (f"; the older {path} is removed" if gone else ""))
        return
    if path == STANDARD_OUTPUT:
        write_wav_to(sys.stdout.buffer, wave, codec.config.sample_rate)
        return
    write_audio(path, wave, codec.config.sample_rate)
    print(f"wrote {path}")


def _title(question: str) -> str:
    """What a question is called on the page: the name of its file, or its text."""
    return _shown(Path(question).name if typed.is_audio(question) else question)


def _write_page(args, talker: Talker, codec: Codec, entries: list) -> None:
    """Write the page of all replies."""
    from minittt.app.page import Entry, PageSettings, write_page

    command = shlex.join(["minittt", *args.arguments])
    settings = PageSettings(talker=args.talker.name, seed=_seed(args), command=command)
    measure_coherence = _coherence()
    compares_steps = len(args.compare or []) > 1
    shown = []
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
        shown.append(entry)
    write_page(args.page, shown, talker, settings)
    print(f"wrote {args.page}", file=_console(args))


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
    talker, codec = _load(args)
    conversations = []
    for path in args.files:  # one at a time: codes are small, recordings are not
        heard = talker.listen(codec, read_audio(path, codec.config.sample_rate))
        conversations.append([["system", instruction], ["user", heard]])
    settings = replace(decoding_settings(), max_spans=0)  # text alone
    replies = talker.converse(conversations, settings)
    for path, reply in zip(args.files, replies, strict=True):
        print(f"{_shown(path)}: {reply.text}{_how_sure(talker, reply)}")
        if reply.reason == "limit":
            warn(f"{_shown(path)}: the text was cut after {MAX_TEXT} tokens")
    _write_replies(args, talker, list(zip(args.files, replies, strict=True)))


def transcribe(args) -> None:
    """Print the words of each recording."""
    _listen_and_write(args, "transcribe")


def caption(args) -> None:
    """Print what each recording is."""
    _listen_and_write(args, "describe")


def speak(args) -> None:
    """Write a text as speech; a long one part by part, in one voice."""
    talker, codec = _load(args)
    settings = _decoding(args, talker)
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
                [[["system", "speak"], ["user", part]]], settings, _seed(args) + attempt
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
    _write_sound(args.output, np.concatenate(waves), codec, args.text)
    in_parts = f"{len(parts)} parts, " if len(parts) > 1 else ""
    print(f"{in_parts}{n_tokens} audio tokens, {n_forwards} forwards", file=_console(args))


def train(args) -> None:
    """Train a talker and draw its curves; one process of several where torchrun started it."""
    from minittt.app.plotting import draw_curves
    from minittt.training.checkpoints import steps_of
    from minittt.training.parallel import leave_processes
    from minittt.training.pretrained import start_from
    from minittt.training.trainer import Trainer, steps_in

    _use_threads(args)
    settings = settings_from(args, TrainingSettings, model=_model_sizes(args))
    device = _device_name(args)
    _check_run(args)
    try:
        start, corpus = start_from(args.init, _training_data(args))
        if args.mix:
            corpus = mixed(corpus, load_corpus(args.mix), settings_from(args, MixOptions).mix_share)
        minutes = settings_from(args, TimeOption).minutes
        if minutes is not None and args.resume:
            settings = replace(settings, steps=steps_of(args.output))
        elif minutes is not None:
            settings = replace(settings, steps=steps_in(minutes, corpus, settings, start, device))
            print(f"{settings.steps} steps fit into {minutes:g} minutes here")
        trainer = Trainer(corpus, args.output, settings, args.resume, start, device)
        first = trainer.world.rank == 0
        if first:
            _say_what_is_trained(trainer)
        trainer.train()
        if first:
            lines = [
                json.loads(line)
                for line in (args.output / "log.jsonl").read_text(encoding="utf-8").splitlines()
            ]
            with whole_file(args.output / "curves.png") as unfinished:
                draw_curves(lines).savefig(unfinished, dpi=120)
            print(f"wrote {args.output / 'talker.safetensors'} and {args.output / 'curves.png'}")
            for path, times in getattr(corpus.split("train"), "malformed", {}).items():
                print(f"{path}: a malformed record was skipped {times} times; --on-error raise names it")
    finally:
        leave_processes()


def _model_sizes(args) -> dict[str, int]:
    """The sizes of the model that options change. Raises MinitttError for a width that the heads cannot share."""
    asked = settings_from(args, ModelSizes)
    sizes = {}
    if asked.layers is not None:
        sizes["n_layers"] = asked.layers
    if asked.width is None:
        return sizes
    if args.init is None:  # else the model has the heads of what it begins with
        n_heads = ModelConfig.n_heads
        if asked.width % (2 * n_heads):
            raise MinitttError(
                f"--width must be a multiple of {2 * n_heads}, an even number of channels for each of {n_heads} heads, "
                f"not {asked.width}"
            )
    return {**sizes, "d_model": asked.width}


def export(args) -> None:
    """Write a talker as a Hugging Face folder."""
    from minittt.training.pretrained import export_talker

    export_talker(Talker.load(args.talker), args.output)
    print(f"wrote {args.output}")


def _training_data(args) -> Corpus:
    """The corpus folder that --data names, or the files of records that it names as a corpus."""
    if len(args.data) == 1 and not args.data[0].is_file():
        return load_corpus(args.data[0])
    from minittt.data.streaming_records import HELD_OUT, RecordStream, stream_corpus

    if args.mix:
        raise MinitttError("--mix takes corpora; mix files of records by naming them all, and --weights")
    options = settings_from(args, RecordOptions)
    seed = settings_from(args, TrainingSettings).seed
    stream = RecordStream(
        args.data, seed, args.weights, options.on_error, options.codebook_size, held_out=HELD_OUT
    )
    return stream_corpus(stream, _tokeniser_for(args, stream), options.codec_name)


def _tokeniser_for(args, stream) -> Tokeniser:
    """What reads the texts of the records: the tokeniser that is named, or that of --init, or one trained on them."""
    from minittt.data.streaming_records import tokeniser_of

    if args.tokeniser:
        return load_tokeniser(args.tokeniser)
    if args.init and args.init.is_dir():
        return load_tokeniser(args.init / "tokenizer.json")
    if args.init:
        return Talker.load(args.init).tokeniser
    return tokeniser_of(stream, args.output / "tokeniser.model")


def _check_run(args) -> None:
    """Raise MinitttError where the folder of the run does not fit: asked before anything is read."""
    from minittt.training.checkpoints import states

    if args.resume and not states(args.output):
        raise MinitttError(
            f"{args.output} holds no unfinished run to resume: check -o, or leave --resume out to begin one"
        )
    if not args.resume and states(args.output):
        raise MinitttError(f"{args.output} holds an unfinished run: resume it, or give another folder")


def adapt(args) -> None:
    """Import recordings, train on from a talker, and print how it did before and after."""
    from minittt.app import adapt as adapting

    _use_threads(args)
    talker, codec = _load(args)
    settings = TrainingSettings(
        preset=talker.info["training"]["preset"],
        steps=1,  # replaced by what fits into the minutes
        learning_rate=1e-3,
        muon_learning_rate=2.5e-3,
        seed=_seed(args),
        samples=0,
    )
    with locked(args.output):
        found = adapting.adapt(
            args.recordings,
            args.output,
            talker,
            codec,
            corpus_for(talker, args.mix),
            settings,
            settings_from(args, AdaptOptions).minutes,
            tuple(args.hold_out),
            _licence(args),
            device=_device_name(args),
        )
    for measure in found:
        print(measure)
    print(f"wrote {args.output / 'talker.safetensors'}")


def _say_what_is_trained(trainer) -> None:
    if trainer.loader.left_out:
        length = trainer.s.row_length
        print(f"{trainer.loader.left_out} records do not fit a row of {length} tokens: left out")
    parameters = sum(p.numel() for p in trainer.model.parameters())
    print(f"training on {trainer.world.device}, {parameters:,} parameters")


def evaluate(args) -> None:
    """Print the table of scores for one split."""
    from minittt.evaluation.codec_quality import originals
    from minittt.evaluation.evaluate import Evaluation
    from minittt.evaluation.outside_judge import OutsideJudge
    from minittt.evaluation.referee import Referee

    _use_threads(args)
    if args.people is not None:
        return _evaluate_people(args)
    if args.foreign is not None:
        return _evaluate_foreign(args)
    talker, codec = _load(args)
    corpus = corpus_for(talker, args.data)
    settings = _decoding(args, talker)
    referee = Referee.load(args.referee).to(codec.device)
    options = settings_from(args, EvaluationOptions)
    evaluation = Evaluation(talker, corpus, codec, referee, options.split, settings, _seed(args))
    corpus.split(options.split)  # names the splits there are, if this is none
    strange = evaluation.strange_voices()
    if strange:
        warn(
            f"the referee never heard {', '.join(filter(None, strange)) or 'the voices of these replies'}: its verdict on "
            "them may be wrong; the codec is measured on other voices, not on these recordings"
        )
    recordings = originals(min(100, options.limit or 100), SAMPLES / "wav")
    judge = OutsideJudge(args.judge_model) if args.judge_model else None
    evaluation.everything(options.limit, recordings)
    if judge is not None:
        evaluation.outside(judge, options.limit)
    _report(evaluation.scores, args.json)
    if args.pace:
        print(evaluation.pace())


def _report(scores: list, path: Path | None) -> None:
    """Print scores, and write them where a file is named."""
    from minittt.evaluation.scores import write_scores

    for score in scores:
        print(score)
    if path is not None:
        write_scores(path, scores)


def _evaluate_people(args) -> None:
    """Print how well people are understood."""
    from minittt.evaluation.people import hear_people, read_conditions

    talker, codec = _load(args)
    conditions = None
    if args.conditions is not None:
        conditions = read_conditions(args.conditions)
    limit = settings_from(args, EvaluationOptions).limit
    scores = hear_people(talker, codec, args.people, args.speaker, limit, conditions)
    _report(scores, args.json)


def _evaluate_foreign(args) -> None:
    """Print how much of what was never taught is refused."""
    from minittt.evaluation.refusals import hear_foreign

    talker, codec = _load(args)
    limit = settings_from(args, EvaluationOptions).limit
    scores = hear_foreign(talker, codec, args.foreign, limit)
    _report(scores, args.json)


def calibrate(args) -> None:
    """Fit a talker's confidence, and write it into its header."""
    from minittt.evaluation.confidence import calibrate_on

    talker = Talker.load(args.talker).to(_device(args))
    corpus = corpus_for(talker, args.data)
    talker.check_corpus(corpus)
    found = calibrate_on(talker, corpus, corpus.split(args.split))
    talker.info["confidence"] = found.as_field()
    talker.save(args.output)
    print(f"{found.right:.3f} of {found.items} replies are right; wrote {args.output}")


def _build(args, codec: Codec) -> None:
    """The spoken world: asked by one synthesiser, or by the crowd that the options name."""
    from minittt.world import peopled_world, spoken_world
    from minittt.world.users import Users

    if args.recorded is None and args.people is None and args.foreign is None:
        spoken_world.build(args.output, codec, _seed(args))
        return
    crowd = Users(args.recorded, args.people, tuple(args.leave_out), foreign=args.foreign)
    crowds = {"train": crowd, "renditions": crowd}
    if args.held_out is not None:
        crowds["makes"] = Users(args.held_out)
    peopled_world.build(
        args.output, codec, crowds, _seed(args), licence=_licence(args), workers=args.workers or 1
    )


def _encode(args, codec: Codec) -> None:
    """Encode a folder of recordings; one process of several where torchrun started it."""
    from minittt.data.encode import encode_folder
    from minittt.training.parallel import join_processes, leave_processes

    if args.recordings is None:
        raise MinitttError("say which folder to encode: minittt data encode DIR -o OUT")
    try:
        world = join_processes(_device_name(args))
        per_shard = settings_from(args, EncodeOptions).per_shard
        codec = codec.to(world.device)
        done = encode_folder(args.recordings, args.output, codec, world.rank, world.size, per_shard)
        for name, why in done.left_out.items():
            print(f"left out {name}: {why}", file=sys.stderr)
        print(
            f"process {world.rank} of {world.size}: {done.written} shards written, {done.found} were there, "
            f"{len(done.left_out)} recordings left out"
        )
        world.wait()
    finally:
        leave_processes()


def data(args) -> None:
    """Make a corpus folder: the spoken world, or someone's own recordings."""
    codec = Codec.load(args.codec).to(_device(args))
    if args.action == "build":
        _build(args, codec)
    elif args.action == "encode":
        _encode(args, codec)
    else:
        from minittt.world.recordings import import_recordings

        if args.recordings is None:
            raise MinitttError("say which folder to import: minittt data import DIR -o OUT")
        import_recordings(
            args.recordings,
            args.output,
            codec,
            _seed(args),
            _licence(args),
            like=Talker.load(args.like) if args.like else None,
            hold_out=tuple(args.hold_out),
            test_only=args.test_only,
            copies=settings_from(args, ImportOptions).copies,
        )
    print(f"wrote {args.output}")


def codec(args) -> None:
    """Train a codec, or pass a recording through one."""
    if args.action == "roundtrip":
        _roundtrip(args)
        return
    with locked_file(args.output):  # drawing what is heard takes minutes
        _train_codec(args)
    print(f"wrote {args.output}")


def _train_codec(args) -> None:
    from minittt.training.codec_training import (
        check_state,
        draw_corpus,
        draw_listening_corpus,
        read_corpus,
        train_codec,
    )
    from minittt.world.users import Users

    settings = settings_from(args, CodecTrainingSettings, config=CodecConfig())
    check_state(args.output, args.resume)
    start = None
    if args.start is not None:
        start = Codec.load(args.start)
    licence = _licence(args)
    if args.recorded is not None or args.people is not None:
        users = Users(args.recorded, args.people, tuple(args.leave_out))
        pairs = draw_listening_corpus(12_000, users, settings.seed)
    elif args.input is None:
        pairs = draw_corpus(6000, settings.seed)
        licence = "MIT"
    else:
        pairs = read_corpus(args.input, settings.config.sample_rate)
    log = args.output.with_suffix(".jsonl")
    train_codec(pairs, settings, args.output, log, licence, args.resume, start, _device(args))


def _roundtrip(args) -> None:
    if args.input is None:
        raise MinitttError("say which recording: minittt codec roundtrip IN.wav -o OUT.wav")
    codec = Codec.load(args.codec).to(_device(args))
    wave = read_audio(args.input, codec.config.sample_rate, LONGEST_IN_PIECES)
    codes = codec.encode_long(torch.from_numpy(wave)[None])  # (1, n_q, T)
    _write_sound(args.output, codec.decode_long(codes)[0].numpy(), codec, str(args.input))
    seconds = len(wave) / codec.config.sample_rate
    print(f"{codes.numel()} tokens for {seconds:.2f} s", file=_console(args))


def referee(args) -> None:
    """Train the recogniser and the voice judge."""
    from minittt.evaluation.referee_training import train_referee
    from minittt.world.users import Users

    users = None
    if args.recorded is not None or args.people is not None:
        users = Users(args.recorded, args.people, tuple(args.leave_out))
    train_referee(
        settings_from(args, RefereeSettings),
        args.output,
        args.output.with_suffix(".jsonl"),
        codec=args.codec,
        users=users,
        held_out=None if args.held_out is None else Users(args.held_out),
        licence=_licence(args),
        device=_device(args),
    )
