"""The spoken world's voices: the same words in the same voice are the same samples, whatever was said before."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from minittt.errors import MinitttError
from minittt.world import synthesis

VOICES = ("en-us", "en-us+f2", "en-us+m8", "en-us+whisper", "en-us+klatt3")


def digest(wave: np.ndarray) -> str:
    return hashlib.sha256(wave.tobytes()).hexdigest()


def test_an_utterance_does_not_depend_on_what_was_said_before():
    """libespeak-ng remembers oscillators, flutter and noise; f2 was never the same twice."""
    first = {voice: digest(synthesis.say("two plus three", voice)) for voice in VOICES}
    synthesis.say("something else entirely", "en-us+klatt2", 150, 60)
    again = {voice: digest(synthesis.say("two plus three", voice)) for voice in reversed(VOICES)}
    assert first == again


def test_another_process_says_the_same():
    program = (
        "import hashlib; from minittt.world import synthesis\n"
        "synthesis.say('one', 'en-us+f3')\n"
        "print(hashlib.sha256(synthesis.say('two plus three', 'en-us+f2').tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(synthesis.say("two plus three", "en-us+f2"))


def test_a_voice_that_is_not_there_is_named():
    with pytest.raises(MinitttError, match="no voice 'martian'"):
        synthesis.say("two", "martian")
    assert len(synthesis.say("two", "en-us"))  # and the next call works


def test_a_path_too_long_for_the_library_is_refused(monkeypatch):
    """At 160 bytes libespeak-ng ended the whole Python process."""
    import espeakng_loader

    synthesis._paths.cache_clear()
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: "/" + "x" * 159)
    with pytest.raises(MinitttError, match="160 bytes, 159 at most"):
        synthesis.say("two", "en-us")
    synthesis._paths.cache_clear()


def test_data_that_cannot_be_read_is_an_error_and_not_the_end_of_the_process(monkeypatch, tmp_path):
    import espeakng_loader

    synthesis._paths.cache_clear()
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(MinitttError, match="cannot read its data"):
        synthesis.say("two", "en-us")
    synthesis._paths.cache_clear()
