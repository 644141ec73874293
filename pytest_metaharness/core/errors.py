"""Errors that end a trial or keep it from starting. Each message says where, what was found and what to do."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path


class MetaharnessError(Exception):
    """Anything this package raises on purpose."""


class TargetError(MetaharnessError):
    """A target file that cannot be used; *problems* are whole lines, ``file:line: key: what was found``."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class GateFailure(MetaharnessError, AssertionError):
    """A trial's verdict is a failure; the message is what the user reads."""


class BackendError(MetaharnessError):
    """A backend that cannot be used at all: unknown, not installed, not logged in."""


class SandboxError(MetaharnessError):
    """The jail that was asked for cannot be used, or broke. Never a candidate's fault."""


class StoreError(MetaharnessError):
    """The session store cannot be used: git missing, disk full, foreign content. Never a candidate's fault."""


def explain_system_error(error: OSError, directory: Path) -> str:
    """Say in a line what the system did not let us do; sessions are stored in *directory*."""
    what = error.strerror or str(error)
    where = f"{error.filename or f'{directory} or {tempfile.gettempdir()}'}: {what}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk is full: {where}; make room, or store sessions elsewhere (--metaharness-dir, TMPDIR)"
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}:
        return f"sessions cannot be stored: {where}; another place can be given with --metaharness-dir"
    return where
