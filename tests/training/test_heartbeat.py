"""Who trains with others hears of it when one of them stands still."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch.distributed as dist

from minittt.training import heartbeat
from minittt.training.heartbeat import Heartbeat
from tests.browser import until
from tests.toy import write_small_corpus

BEAT = 0.02  # seconds


@pytest.fixture
def given_up(monkeypatch):
    """What would have ended this process."""
    found = []
    monkeypatch.setattr(heartbeat, "_give_up", found.append)
    return found


@pytest.fixture
def ring(given_up):
    """Processes that beat in one store; whatever happens, their threads end with the test."""
    made = []

    def start(size, patience, of=None):
        store = dist.HashStore()
        for rank in range(of or size):
            made.append(Heartbeat(store, rank, size, BEAT, patience * BEAT))
            made[-1].start()
        return made

    yield start
    for beat in made:
        beat.leave()


def wait_for(found):
    """Until something is found; a machine may be busy."""
    deadline = time.monotonic() + 20
    while not found and time.monotonic() < deadline:
        time.sleep(BEAT)
    assert found


def test_a_ring_of_three_lives_on_and_notices_who_stands_still(ring, given_up):
    beats = ring(3, patience=50)
    time.sleep(70 * BEAT)
    assert not given_up
    beats[1].store = _Deaf(beats[1].store)  # its signs of life no longer arrive
    wait_for(given_up)
    assert given_up[0].startswith("process 1 has given no sign of life")


class _Deaf:
    """A store that takes nothing."""

    def __init__(self, store):
        self.check, self.get = store.check, store.get

    def set(self, key, value):
        pass


def test_who_leaves_in_good_order_is_not_waited_for(ring, given_up):
    _, other = ring(2, patience=20)
    time.sleep(5 * BEAT)
    other.leave()
    time.sleep(40 * BEAT)
    assert not given_up


def test_one_that_never_comes_is_given_up(ring, given_up):
    ring(2, patience=5, of=1)
    wait_for(given_up)
    assert given_up[0].startswith("process 1 has given no sign of life")


# ---- a real training by two processes

TRAINING = (
    "train --data corpus -o run --width 16 --layers 1 --records 4 --steps 1000000 --samples 0 --evaluate-every 1000000"
).split()
PATIENCE = 300.0  # seconds until a training has begun; a machine may be busy


def ranks_of(torchrun) -> dict[int, int]:
    """The processes that torchrun has started: rank -> number of the process."""
    found = {}
    children = subprocess.run(["pgrep", "-P", str(torchrun.pid)], capture_output=True, text=True, check=False)
    for number in children.stdout.split():
        with suppress(OSError):
            for entry in Path(f"/proc/{number}/environ").read_text(encoding="utf-8").split("\0"):
                if entry.startswith("RANK="):
                    found[int(entry.removeprefix("RANK="))] = int(number)
    return found


def has_ended(number: int) -> bool:
    """Whether a process is no more, or waits for its parent to notice."""
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="processes are looked up in /proc")
@pytest.mark.parametrize(
    ("blow", "struck", "says"),
    [
        (signal.SIGKILL, 1, "(SIGKILL)"),
        (signal.SIGKILL, 0, "(SIGKILL)"),
        (signal.SIGSTOP, 1, "process 1 has given no sign of life for 30 seconds"),
        (signal.SIGSTOP, 0, "process 0 has given no sign of life for 30 seconds"),
    ],
    ids=["killed 1", "killed 0", "stopped 1", "stopped 0"],
)
def test_when_a_process_is_killed_or_stopped_the_others_end_within_a_minute(blow, struck, says, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    write_small_corpus(tmp_path / "corpus")
    told = tmp_path / "told.txt"
    ranks = {}
    with told.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [*torchrun, "-m", "minittt", *TRAINING], cwd=tmp_path, env=environment, stdout=file, stderr=file
        )
    try:
        log = tmp_path / "run" / "log.jsonl"
        until(lambda: log.is_file() and log.read_text(encoding="utf-8").count("\n") > 2, "training", PATIENCE)
        ranks = ranks_of(process)
        os.kill(ranks[struck], blow)
        until(lambda: has_ended(ranks[1 - struck]), "the end of the other process", 60)
        process.wait(PATIENCE)
        assert process.returncode != 0
        assert says in told.read_text(encoding="utf-8")
    finally:
        for number in ranks.values():
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.kill()
        process.wait()
