"""What several processes need and one of them finds out."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from .runfolder import write_atomically


class Found(NamedTuple):
    """A *value*, and whether it *was_known* before."""

    value: Any
    was_known: bool


def compute_once(file: Path, kind: Any, compute: Callable[[], Any]) -> Found:
    """Give the *kind* of value that *file* holds as JSON, or else what *compute* gives, which is written to it.

    Who needs the same meanwhile, in another process too, waits for it. Nothing is kept when *compute* raises; a damaged
    file counts as none. The folder of *file* is made where it is not there.
    """
    file.parent.mkdir(exist_ok=True)
    with file.with_suffix(".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return Found(msgspec.json.decode(file.read_bytes(), type=kind), was_known=True)
        except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
            value = compute()
            write_atomically(file, msgspec.json.encode(value))
            return Found(value, was_known=False)
