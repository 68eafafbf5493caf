"""Is this machine ready? One line a part: what was found, and what to do where something is missing."""

import importlib
import platform
import shutil
import sys
from pathlib import Path

OPTIONAL = {
    "espeakng_loader": "only to make the spoken world anew: pip install 'minittt[data]'",
    "pytest": "only to run the tests: pip install 'minittt[dev]'",
    "jupyter": "only for the notebooks: pip install 'minittt[notebooks]'",
}
NEEDED = ("numpy", "sentencepiece", "soxr", "soundfile", "safetensors", "tqdm", "matplotlib", "jiwer")


def check(samples: Path) -> list[tuple[bool, bool, str, str]]:
    """(works, needed, part, what was found or what to do) of every part."""
    lines = [
        (
            sys.version_info >= (3, 10),
            True,
            "Python",
            f"{platform.python_version()} (3.10 or newer is needed)",
        )
    ]
    lines.append(_torch())
    for name in NEEDED:
        lines.append(_package(name, True, f"pip install {name}"))
    lines.append(_encodec())
    for name, advice in OPTIONAL.items():
        lines.append(_package(name, False, advice))
    for name in ("codec.safetensors", "talker.safetensors", "referee.safetensors", "corpus/corpus.json"):
        found = (samples / name).is_file()
        lines.append(
            (found, True, f"data_samples/{name}", "found" if found else "missing: use a complete clone")
        )
    browser = next((p for p in ("chromium", "google-chrome", "firefox") if shutil.which(p)), None)
    lines.append(
        (browser is not None, False, "browser", browser or "only to look at reply pages: any browser will do")
    )
    return lines


def _package(name: str, needed: bool, advice: str) -> tuple[bool, bool, str, str]:
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        return False, needed, name, f"{type(error).__name__}: {advice}"
    return True, needed, name, str(getattr(module, "__version__", "found"))


def _torch() -> tuple[bool, bool, str, str]:
    try:
        import torch
    except (ImportError, OSError):
        return False, True, "torch", "pip install torch"
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads"
    )
    return True, True, "torch", f"{torch.__version__} on {device}"


def _encodec() -> tuple[bool, bool, str, str]:
    from minittt.codec import import_encodec

    try:
        import_encodec()
    except (ImportError, OSError, ValueError) as error:
        return False, True, "encodec", f"{error}: pip install encodec"
    return True, True, "encodec", "its networks load (torchaudio is not needed)"
