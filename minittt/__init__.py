"""minittt: Text-to-Talk (arXiv 2509.20072) as a small, exact, readable reference implementation.

The files beside this one are the method: `attention.py`, `diffusion.py`, `decoding.py`, `unmasking.py` and `codec.py`
(each runs when copied alone), and what puts it to work: `model.py`, `context.py`, `objective.py`, `strategies.py`,
`talker.py`. Everything else has a room: `data`, `training`, `world`, `evaluation`, `theory`, `app`.

The names below are what most programs need; they are imported when first used, so that `import minittt` costs nothing.
"""

from importlib import import_module

__version__ = "0.2.0"

_HOME = {  # name -> the module it lives in
    "Codec": "codec",
    "CachedContext": "context",
    "Settings": "decoding",
    "generate": "decoding",
    "assign_groups": "attention",
    "group_mask": "attention",
    "two_stream_mask": "attention",
    "ModelConfig": "model",
    "Transformer": "model",
    "MinitttError": "errors",
    "Sampling": "unmasking",
    "Talker": "talker",
    "Trainer": "training.trainer",
    "TrainingSettings": "settings",
    "load_corpus": "data.corpus",
    "preset": "objective",
    "unified_loss": "objective",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'minittt' has no attribute {name!r}")
    return getattr(import_module(f"minittt.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
