"""What several commands make of their options: talker, codec, settings, device, seed, and where to write.

What is named in `arguments.py` becomes what the other rooms work with. `warn` says where a result may not be as asked for.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from minittt.app.shipped import codec_for
from minittt.app.streaming import write_wav_to
from minittt.codec import Codec, write_audio
from minittt.data.headers import UNKNOWN
from minittt.decoding import Settings
from minittt.device import device_named
from minittt.errors import MinitttError
from minittt.files import STANDARD_OUTPUT, remove, writable_text
from minittt.nar import DenoisingTalker
from minittt.objective import preset
from minittt.settings import (
    ComputingSettings,
    DecodingOptions,
    DeviceOption,
    SeedOption,
    settings_from,
)
from minittt.talker import Talker, decoding_settings
from minittt.unmasking import policy_named


def decoding(args, talker: Talker, steps: int | None = None, first_block: int | None = None) -> Settings:
    """The decoder's settings: the options of the command line, and the way this talker was trained to speak."""
    options = settings_from(args, DecodingOptions)
    if steps is None:
        steps = options.steps
    block = _block(args, talker, options.block)
    if first_block is not None and first_block >= block:
        raise MinitttError(f"--first-block must be smaller than a block, {block} slots, not {first_block}")
    if first_block is not None:
        _check_first_block(talker, block, first_block)
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


def _check_first_block(talker: Talker, block: int, first_block: int) -> None:
    """Warn of a first block that training never drew: it draws from those of its sizes that are smaller than a block."""
    trained = [size for size in talker.info.get("block_sizes") or [] if size is not None]
    smaller = [size for size in trained if size < block]
    if trained and first_block not in smaller:
        known = ", ".join(map(str, smaller)) or "none"
        warn(
            f"this talker was not trained for a first block of {first_block} (but for {known}): its speech may begin worse"
        )


def _block(args, talker: Talker, block: int) -> int:
    """The block size to decode with: the one asked for, with a warning where this talker was not trained for it.

    If none is asked for and the default was not trained, it is the largest that was.
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
    """Print one line on standard error: the result may be wrong, or is not all that was asked for."""
    print(f"warning: {message}", file=sys.stderr)


def seed_of(args) -> int:
    """What --seed says."""
    return settings_from(args, SeedOption).seed


def licence_of(args) -> str:
    """The licence of the recordings that a command reads."""
    return args.licence or UNKNOWN


def use_threads(args) -> None:
    """Use as many CPU threads as --threads says."""
    threads = settings_from(args, ComputingSettings).threads
    if threads is not None:
        torch.set_num_threads(threads)


def device_of(args) -> torch.device:
    """The device that --device names."""
    return device_named(device_name(args))


def device_name(args) -> str:
    """What --device says: auto, or the name of a device."""
    return settings_from(args, DeviceOption).device


def load(args) -> tuple[Talker, Codec]:
    """The talker and codec that the options name, on the device that they name."""
    device = device_of(args)
    talker = Talker.load(args.talker).to(device)
    codec = codec_for(talker, args.codec).to(device)
    if preset(talker.info["training"]["preset"]).denoise_text:
        if getattr(args, "stream", False):
            raise MinitttError(
                "this talker denoises its text too: it has nothing to say before the reply is whole"
            )
        talker = DenoisingTalker(talker.model, talker.vocabulary, talker.tokeniser, talker.info)
    if getattr(args, "guess", False):
        talker.always_guess()
    return talker, codec


def console(args):
    """Where text goes: standard error while standard output belongs to the samples."""
    return sys.stderr if args.output == STANDARD_OUTPUT else sys.stdout


def shown(question: object) -> str:
    """A question or a file's name, in a form that every terminal and file can hold."""
    return writable_text(str(question))


def write_sound(path: Path, wave: np.ndarray, codec: Codec, what: str) -> None:
    """Write one sound (samples,) to a file, or as WAV to standard output; without samples, say so and leave no older one."""
    if not len(wave):
        gone = path != STANDARD_OUTPUT and remove(path)
        warn(f"{what}: nothing was said" + (f"; the older {path} is removed" if gone else ""))
        return
    if path == STANDARD_OUTPUT:
        write_wav_to(sys.stdout.buffer, wave, codec.config.sample_rate)
        return
    write_audio(path, wave, codec.config.sample_rate)
    print(f"wrote {path}")
