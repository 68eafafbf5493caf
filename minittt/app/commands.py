"""All commands, by their names on the command line: those that use a talker, and those that make and measure."""

from minittt.app.making import adapt, calibrate, codec, data, evaluate, export, referee, train
from minittt.app.talking import caption, chat, serve, speak, talk, transcribe

__all__ = [
    "adapt",
    "calibrate",
    "caption",
    "chat",
    "codec",
    "data",
    "evaluate",
    "export",
    "referee",
    "serve",
    "speak",
    "talk",
    "train",
    "transcribe",
]
