"""How many proposals of one backend may run at once in a session, over all its workers."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

PAUSE_S = 0.1


@contextlib.contextmanager
def take_seat(folder: Path, name: str, count: int) -> Iterator[None]:
    """Hold one of the *count* seats called *name* below *folder*; waits until one is free.

    A seat is a file that is locked (flock(2)), so that one whose holder was killed is free again. The wait can be
    interrupted; it ends as those before it do.
    """
    folder.mkdir(exist_ok=True)
    slug = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:16]
    with contextlib.ExitStack() as files:
        seats = [files.enter_context((folder / f"{slug}-{number}.lock").open("ab")) for number in range(1, count + 1)]
        while not any(_try_lock(seat.fileno()) for seat in seats):
            time.sleep(PAUSE_S)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
