"""The watcher: ends the jails of a process that is killed while one is being made, and nothing else would end it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import uuid

from ..errors import SandboxError
from . import guardian
from .descriptors import open_pipe


@functools.cache
def start_watcher(pid: int) -> str:
    """Have the jails that this process, *pid*, will start ended when it is killed; gives the token they have to carry.

    The watcher is nobody's child, so that nobody takes it for something that a backend has started.

    :raises SandboxError: it cannot be started.
    """
    token = uuid.uuid4().hex
    control, ours = open_pipe()
    os.set_inheritable(control, True)
    nowhere = [(os.POSIX_SPAWN_OPEN, there, os.devnull, os.O_RDWR, 0) for there in (0, 1, 2)]
    watcher = guardian.command(guardian.WATCH, str(control), token)
    try:
        parent = os.posix_spawn(
            "/bin/sh", ["sh", "-c", '"$@" &', "sh", *watcher], {}, file_actions=nowhere, setsid=True, setsigmask=()
        )
        with contextlib.suppress(ChildProcessError):  # somebody else in this process collects every child
            os.waitpid(parent, 0)
    except OSError as error:
        message = f"the watcher of the jails cannot be started: {error.strerror}"
        raise SandboxError(message) from error
    finally:
        os.close(control)
    atexit.register(_dismiss, pid, ours)
    return token


def _dismiss(pid: int, control: int) -> None:
    if os.getpid() == pid:  # no fork of it
        with contextlib.suppress(OSError):  # it is gone already
            os.write(control, guardian.DISMISS)
