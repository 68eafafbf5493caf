"""The commands that make and measure: train, export, adapt, evaluate, calibrate, data, codec, referee.

What they need is imported when they run: asking a talker does not load what trains one.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from minittt.app.options import (
    console,
    decoding,
    device_name,
    device_of,
    licence_of,
    load,
    seed_of,
    use_threads,
    warn,
    write_sound,
)
from minittt.app.shipped import codec_for, corpus_for
from minittt.codec import LONGEST_IN_PIECES, Codec, CodecConfig, read_audio, whole_file
from minittt.data.corpus import Corpus, load_corpus, mixed
from minittt.data.tokenisers import Tokeniser, load_tokeniser
from minittt.errors import MinitttError
from minittt.files import locked, locked_file
from minittt.model import ModelConfig
from minittt.settings import (
    TO_STUDY,
    TO_TALK,
    AdaptOptions,
    CodecTrainingSettings,
    EncodeOptions,
    EvaluationOptions,
    ImportOptions,
    MixOptions,
    ModelSizes,
    RecordOptions,
    RefereeSettings,
    TimeOption,
    TrainingSettings,
    samples_folder,
    settings_from,
    talker_file,
)
from minittt.talker import Talker

SAMPLES = samples_folder()


def train(args) -> None:
    """Train a talker and draw its curves; one process of several where torchrun started it."""
    from minittt.app.plotting import draw_curves
    from minittt.training.checkpoints import steps_of
    from minittt.training.parallel import leave_processes
    from minittt.training.pretrained import start_from
    from minittt.training.trainer import Trainer, steps_in

    use_threads(args)
    settings = settings_from(args, TrainingSettings, model=_model_sizes(args))
    device = device_name(args)
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
                draw_curves(lines).savefig(unfinished, dpi=150)
            print(f"wrote {args.output / 'talker.safetensors'} and {args.output / 'curves.png'}")
            for path, times in getattr(corpus.split("train"), "malformed", {}).items():
                print(f"{path}: a malformed record was skipped {times} times; --on-error raise names it")
    finally:
        leave_processes()


def _model_sizes(args) -> dict[str, int]:
    """The model sizes that options change. Raises MinitttError for a width that the heads cannot share."""
    asked = settings_from(args, ModelSizes)
    sizes = {}
    if asked.layers is not None:
        sizes["n_layers"] = asked.layers
    if asked.width is None:
        return sizes
    if args.init is None:  # otherwise the model has the heads of what it begins with
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
    """The corpus folder that --data names, or the files of records that it names, as a corpus."""
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
    """The tokeniser for the texts of the records: the one that is named, the one of --init, or one trained on the texts."""
    from minittt.data.streaming_records import tokeniser_of

    if args.tokeniser:
        return load_tokeniser(args.tokeniser)
    if args.init and args.init.is_dir():
        return load_tokeniser(args.init / "tokenizer.json")
    if args.init:
        return Talker.load(args.init).tokeniser
    return tokeniser_of(stream, args.output / "tokeniser.model")


def _check_run(args) -> None:
    """Raise MinitttError where the folder of the run does not fit: checked before anything is read."""
    from minittt.training.checkpoints import states

    if args.resume and not states(args.output):
        raise MinitttError(
            f"{args.output} holds no unfinished run to resume: check -o, or leave --resume out to begin one"
        )
    if not args.resume and states(args.output):
        raise MinitttError(f"{args.output} holds an unfinished run: resume it, or give another folder")


def adapt(args) -> None:
    """Import recordings, train a talker further on them, and print how it did before and after."""
    from minittt.app import adapt as adapting

    use_threads(args)
    talker, codec = load(args)
    settings = TrainingSettings(
        preset=talker.info["training"]["preset"],
        steps=1,  # replaced by the number that fits into the minutes
        learning_rate=1e-3,
        muon_learning_rate=2.5e-3,
        seed=seed_of(args),
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
            licence_of(args),
            device=device_name(args),
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

    use_threads(args)
    if args.talker is None:
        # the studies are about one shipped talker, which has never heard a person or been taught to refuse
        hears_others = args.people is not None or args.foreign is not None
        args.talker = talker_file(TO_TALK if hears_others else TO_STUDY)
    if args.people is not None:
        return _evaluate_people(args)
    if args.foreign is not None:
        return _evaluate_foreign(args)
    talker, codec = load(args)
    corpus = corpus_for(talker, args.data)
    settings = decoding(args, talker)
    referee = Referee.load(args.referee).to(codec.device)
    options = settings_from(args, EvaluationOptions)
    evaluation = Evaluation(talker, corpus, codec, referee, options.split, settings, seed_of(args))
    corpus.split(options.split)  # if there is no such split, the error names those there are
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
    """Print scores, and write them to a file if one is named."""
    from minittt.evaluation.scores import write_scores

    for score in scores:
        print(score)
    if path is not None:
        write_scores(path, scores)


def _evaluate_people(args) -> None:
    """Print how well people are understood."""
    from minittt.evaluation.people import hear_people, read_conditions

    talker, codec = load(args)
    conditions = None
    if args.conditions is not None:
        conditions = read_conditions(args.conditions)
    limit = settings_from(args, EvaluationOptions).limit
    scores = hear_people(talker, codec, args.people, args.speaker, limit, conditions)
    _report(scores, args.json)


def _evaluate_foreign(args) -> None:
    """Print how much of what was never taught is refused."""
    from minittt.evaluation.refusals import hear_foreign

    talker, codec = load(args)
    limit = settings_from(args, EvaluationOptions).limit
    scores = hear_foreign(talker, codec, args.foreign, limit)
    _report(scores, args.json)


def calibrate(args) -> None:
    """Fit a talker's confidence, and write it into its header."""
    from minittt.evaluation.confidence import calibrate_on

    talker = Talker.load(args.talker).to(device_of(args))
    corpus = corpus_for(talker, args.data)
    talker.check_corpus(corpus)
    found, declining = calibrate_on(talker, corpus, corpus.split(args.split))
    talker.info["confidence"] = found.as_field()
    talker.info["declines"] = None if declining is None else asdict(declining)
    talker.save(args.output)
    print(f"{found.right:.3f} of {found.items} replies are right; wrote {args.output}")
    if declining is not None:
        print(
            f"to a question it says {declining.text!r} where its words are less sure than {declining.below:.3f}"
        )


def _build(args, codec: Codec) -> None:
    """Build the spoken world: asked by one synthesiser, or by the crowd that the options name."""
    from minittt.world import peopled_world, spoken_world
    from minittt.world.users import Users

    if args.recorded is None and args.people is None and args.foreign is None:
        spoken_world.build(args.output, codec, seed_of(args))
        return
    crowd = Users(args.recorded, args.people, tuple(args.leave_out), foreign=args.foreign)
    crowds = {"train": crowd, "renditions": crowd}
    if args.held_out is not None:
        crowds["makes"] = Users(args.held_out)
    peopled_world.build(
        args.output, codec, crowds, seed_of(args), licence=licence_of(args), workers=args.workers or 1
    )


def _encode(args, codec: Codec) -> None:
    """Encode a folder of recordings; one process of several where torchrun started it."""
    from minittt.data.encode import encode_folder
    from minittt.training.parallel import join_processes, leave_processes

    if args.recordings is None:
        raise MinitttError("say which folder to encode: minittt data encode DIR -o OUT")
    try:
        world = join_processes(device_name(args))
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
    like = None
    if args.like is not None:
        like = Talker.load(args.like)
        codec = codec_for(like, args.codec)
    else:
        codec = Codec.load(args.codec or SAMPLES / "codec.safetensors")
    codec = codec.to(device_of(args))
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
            seed_of(args),
            licence_of(args),
            like=like,
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
    with locked_file(args.output):  # drawing the corpus takes minutes
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
    licence = licence_of(args)
    if args.recorded is not None or args.people is not None:
        users = Users(args.recorded, args.people, tuple(args.leave_out))
        pairs = draw_listening_corpus(12_000, users, settings.seed)
    elif args.input is None:
        pairs = draw_corpus(6000, settings.seed)
        licence = "MIT"
    else:
        pairs = read_corpus(args.input, settings.config.sample_rate)
    log = args.output.with_suffix(".jsonl")
    train_codec(pairs, settings, args.output, log, licence, args.resume, start, device_of(args))


def _roundtrip(args) -> None:
    if args.input is None:
        raise MinitttError("say which recording: minittt codec roundtrip IN.wav -o OUT.wav")
    codec = Codec.load(args.codec).to(device_of(args))
    wave = read_audio(args.input, codec.config.sample_rate, LONGEST_IN_PIECES)
    codes = codec.encode_long(torch.from_numpy(wave)[None])  # (1, n_q, T)
    write_sound(args.output, codec.decode_long(codes)[0].numpy(), codec, str(args.input))
    seconds = len(wave) / codec.config.sample_rate
    print(f"{codes.numel()} tokens for {seconds:.2f} s", file=console(args))


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
        licence=licence_of(args),
        device=device_of(args),
    )
