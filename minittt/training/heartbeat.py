"""A sign of life from every process that trains with others: one that hangs must not hold up the rest for half an hour.

A process that is killed breaks its connections, which the others notice at once. One that is stopped, or whose machine has
gone, breaks none: the others wait in the next exchange until the process group's timeout, which has to be long, because one
process may be writing a large checkpoint while the others wait. A thread, however, keeps running in a process that works or
waits, and stops with one that is stopped. So the processes form a ring: a thread in each keeps incrementing a counter in the
store where they met, and watches the counter of the next process.
"""

import os
import sys
import threading
from datetime import timedelta

import torch.distributed as dist

BEAT = 2.0  # seconds between two signs of life
PATIENCE = 30.0  # seconds without a sign of life after which a process is given up
LEFT = b"left"  # the sign of a process that has finished its work in good order


class Heartbeat:
    """The thread of one process, `rank` of `size`. store: a separate connection, as the main thread may block in its own."""

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
        """Give signs of life and watch the next process until `leave`."""
        self.thread.start()

    def leave(self) -> None:
        """End in good order: whoever watches this process stops doing so."""
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
        # our own beats since the other's last one: a clock would keep running while this process itself is stopped
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
    """End this process from its thread: the main thread is waiting inside a library and would not see an exception."""
    print(f"minittt: {why}; start again, a training with --resume", file=sys.stderr, flush=True)
    os._exit(2)


def heartbeat_of_torchrun(rank: int, size: int) -> Heartbeat:
    """A heartbeat in the store where torchrun's processes met."""
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=timedelta(seconds=PATIENCE),
    )
    return Heartbeat(dist.PrefixStore("minittt", store), rank, size)
