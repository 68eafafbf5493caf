"""A sign of life of every process that trains with others: one that stands still must not hold up the rest for half an hour.

A process that is killed breaks its connections, which the others notice at once. One that is stopped, or whose machine is
gone, breaks none: the others wait in the next exchange until the timeout of the process group, which has to be long, because
one process may write a large checkpoint while the others wait. A thread, however, lives on in a process that works or waits,
and stands still with one that is stopped. So each process counts up a number in the store that they met in, and watches that
of the next: all of them stand in a ring.
"""

import os
import sys
import threading
from datetime import timedelta

import torch.distributed as dist

BEAT = 2.0  # seconds between two signs of life
PATIENCE = 30.0  # seconds without one, after which a process is given up
LEFT = b"left"  # the sign of a process that has ended its work in good order


class Heartbeat:
    """The thread of one process, `rank` of `size`. store: a connection of its own, as the main thread may wait in one."""

    def __init__(
        self, store: dist.Store, rank: int, size: int, beat: float = BEAT, patience: float = PATIENCE
    ) -> None:
        self.store = store
        self.mine = f"sign of life {rank}"
        self.watched = (rank + 1) % size
        self.theirs = f"sign of life {self.watched}"
        self.beat = beat
        self.patience = patience
        self.left = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Give signs of life, and watch, until `leave`."""
        self.thread.start()

    def leave(self) -> None:
        """End in good order: whoever watches this process does so no more."""
        self.left.set()
        self.thread.join(self.beat)

    def _run(self) -> None:
        try:
            self._beat_and_watch()
            self.store.set(self.mine, LEFT.decode())
        except RuntimeError as error:  # the store's process has ended, and with it the training
            if not self.left.is_set():
                _give_up(f"the other processes cannot be reached any more ({' '.join(str(error).split())})")

    def _beat_and_watch(self) -> None:
        """Returns when this process leaves; ends it when the watched one gives no sign of life."""
        beats = 0
        last = b""
        # own beats without one of the other: a clock would run on while this process is stopped itself
        silent = 0
        while not self.left.wait(self.beat):
            beats += 1
            self.store.set(self.mine, str(beats))
            found = b""
            if self.store.check([self.theirs]):
                found = self.store.get(self.theirs)
            silent = silent + 1 if found == last != LEFT else 0
            last = found
            if silent * self.beat >= self.patience:
                _give_up(
                    f"process {self.watched} has given no sign of life for {self.patience:g} seconds: it was stopped, or "
                    "its machine is gone"
                )


def _give_up(why: str) -> None:
    """End this process from its thread: the main thread waits inside a library, and hears no exception."""
    print(f"minittt: {why}; start again, a training with --resume", file=sys.stderr, flush=True)
    os._exit(2)


def heartbeat_of_torchrun(rank: int, size: int) -> Heartbeat:
    """A heartbeat in the store that torchrun's processes met in."""
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=timedelta(seconds=PATIENCE),
    )
    return Heartbeat(dist.PrefixStore("minittt", store), rank, size)
