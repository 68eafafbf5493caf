"""Film a conversation on the page of `minittt serve`: five turns in a headless Chromium, as an animated WebP.

    python benchmarks/serve_film.py -o tutorials/pictures/conversation.webp

Four questions are spoken into the browser's microphone, from the shipped recordings, and one is typed. Denoising is shown in
slow motion, so that the eye can follow; nothing else is changed. Needs Chromium and the extras [serve] and [dev].
"""

import argparse
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from minittt.settings import samples_folder  # noqa: E402
from tests.browser import PATIENCE, Tab, browser, served  # noqa: E402

SPOKEN = ("question_1", "question_2", "question_4", "question_5")
TYPED = "what is 7 - 4?"
SIZE = (720, 680)  # CSS pixels
SHORTEST_FRAME = 0.3  # seconds: about two passes of the network
LONGEST_FRAME = 0.6  # seconds: a busy machine takes pictures slowly
LAST_FRAME = 3.0  # seconds
LARGEST = 2_000_000  # bytes
STATE = "document.documentElement.dataset.state"


class Film:
    """Pictures of a tab and when they were taken; equal ones in a row are one."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.pictures: list[Image.Image] = []
        self.times: list[float] = []
        self.last = b""

    def take(self) -> None:
        png = self.tab.picture()
        if png == self.last:
            return
        self.last = png
        self.pictures.append(Image.open(io.BytesIO(png)).convert("RGB"))
        self.times.append(time.monotonic())

    def while_in(self, state: str, seconds: float = PATIENCE) -> None:
        """Film as long as the page is in a state, or for so long."""
        begin = time.monotonic()
        while self.tab.run(STATE) == state and time.monotonic() - begin < seconds:
            self.take()
            time.sleep(SHORTEST_FRAME)

    def save(self, path: Path) -> int:
        """Write the film, in lower quality until it is small enough. Returns its bytes."""
        lengths = np.diff(self.times).clip(0.05, LONGEST_FRAME)
        milliseconds = [int(1000 * length) for length in [*lengths, LAST_FRAME]]
        for quality in (70, 50, 30, 15):
            self.pictures[0].save(
                path,
                save_all=True,
                append_images=self.pictures[1:],
                duration=milliseconds,
                loop=0,
                quality=quality,
                method=4,
            )
            if path.stat().st_size < LARGEST:
                break
        return path.stat().st_size


def say(film: Film, name: str, microphone: Path) -> None:
    """Hold the button while a recording is heard, and film the answer."""
    wave, rate = soundfile.read(samples_folder() / "wav" / f"{name}.wav")
    soundfile.write(microphone, np.pad(wave, (rate // 3, 4 * rate)), rate, subtype="PCM_16")
    tab = film.tab
    tab.run(
        "microphone.stream && microphone.close()"
    )  # it hears its file from the beginning when it is opened
    tab.press("#hold")
    while tab.run(STATE) != "recording":
        time.sleep(0.02)
    film.while_in("recording", len(wave) / rate + 0.7)
    tab.release("#hold")


def converse(tab: Tab, address: str, microphone: Path) -> Film:
    """The whole conversation."""
    tab.resize(*SIZE)
    tab.go(address)
    while tab.run(STATE) != "idle":
        time.sleep(0.05)
    film = Film(tab)
    film.take()
    tab.run("document.querySelector('#pace').value = '150'")
    for number, name in enumerate([*SPOKEN, None], 1):
        if name is None:
            tab.run(f"document.querySelector('#text').value = '{TYPED}'")
            film.take()
            tab.run("document.querySelector('#typed').requestSubmit()")
        else:
            say(film, name, microphone)
        while tab.run("turns.number") < number:
            time.sleep(0.02)
        film.while_in("answering")
        tab.run("scrollTo(0, document.body.scrollHeight)")
        time.sleep(0.4)  # colours fade in
        film.take()
        question, answer = tab.run(
            "['.asked', '.answer'].map(s => document.querySelector(`.turn:last-child ${s} blockquote`).textContent)"
        )
        print(f"{question}: {answer}")
        time.sleep(1.0)
    return film


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("tutorials/pictures/conversation.webp"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        microphone = Path(folder) / "microphone.wav"
        soundfile.write(microphone, np.zeros(8000), 8000, subtype="PCM_16")
        with served() as address, browser(Path(folder) / "profile", microphone) as tab:
            film = converse(tab, address, microphone)
            assert not tab.complaints(), tab.complaints()
    size = film.save(args.output)
    print(f"wrote {args.output}: {len(film.pictures)} pictures, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
