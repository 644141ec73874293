"""Descriptors that are to be handed to new processes."""

from __future__ import annotations

import fcntl
import os
import select

from . import guardian


def open_pipe() -> tuple[int, int]:
    """Open a pipe, its ends for reading and writing above 2."""
    reading, writing = os.pipe()
    return lift(reading), lift(writing)


def lift(descriptor: int) -> int:
    """Move *descriptor* above 2, where it lands in a process that has closed its own standard streams."""
    if descriptor > 2:
        return descriptor
    lifted = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return lifted


def wait_readable(descriptor: int, seconds: float) -> bool:
    """Wait until *descriptor* can be read, or has come to its end; False when *seconds* passed first."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def find_inheritable() -> list[int]:
    """Find what a new process would get by accident: descriptors that other code opened for its own children."""
    if not guardian.IS_LINUX:
        return []  # closing what is closed fails there; the guardian closes the rest
    found = []
    with os.scandir("/proc/self/fd") as entries:
        for entry in entries:
            try:
                if os.get_inheritable(int(entry.name)):
                    found.append(int(entry.name))
            except OSError:  # closed meanwhile
                continue
    return found
