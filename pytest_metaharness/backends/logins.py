"""Logins that live in a file: lent to one program at a time, because their refresh tokens can be used only once.

A program that renews its login must leave the new tokens in the original, or the user is logged out. Agents do that in
different ways: they write into the file, or put a new one in its place, beside the link or beside what it points to
(codex 0.169 follows a link and renames a new file over the original). Without our jail a link to the original serves
them all. Inside it only the place of the link can be written, and a file that is bound into a jail cannot be replaced
(the renewal fails with EBUSY after the old token has been spent). So the jail gets a working copy, the only one there
is while the lock is held, and every renewal is saved to the original as soon as it is seen.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, Any

from ..core.errors import BackendError, MetaharnessError
from .events import read_object

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET_LENGTH = 16
"""Shorter strings of a login file are words such as ``chatgpt``; tokens, keys and account numbers are longer."""

_PUBLIC = frozenset({"scope", "scopes", "subscriptionType", "rateLimitTier", "token_type", "tokenType"})
"""Keys of a login file whose values are words too, however long."""

PAUSE = 0.1


class LoginBusyError(MetaharnessError):
    """The login is lent to another run."""


class Login:
    """A login file on loan: *original* is at *place* while the loan lasts."""

    def __init__(self, original: Path, place: Path, *, linked: bool) -> None:
        self._original, self._place = original, place
        self._lent = self._saved = original.read_bytes()
        if linked:
            place.symlink_to(original)
        else:
            _write_private(place, self._lent)

    def find_secrets(self) -> dict[str, str]:
        """Give every secret string of the login, as it was lent and as it is now, by a readable name."""
        secrets: dict[str, str] = {}
        for content in (self._lent, self._read()):
            for key, value in _walk("", read_object(content)):
                if len(value) >= SECRET_LENGTH and value not in secrets.values():
                    name = f"{self._original.name} {key}"
                    secrets[name if name not in secrets else f"{name} (renewed)"] = value
        return secrets

    def save(self) -> None:
        """Bring a renewed login to the original, unless somebody else has changed that meanwhile.

        :raises BackendError: it cannot be saved.
        """
        if self._place.is_symlink() or (renewed := self._read()) == self._saved or read_object(renewed) is None:
            return
        try:
            if self._original.read_bytes() == self._saved:
                _replace(self._original, renewed)
        except OSError as error:
            message = f"a renewed login cannot be saved to {self._original}: {error}; log in again"
            raise BackendError(message) from error
        self._saved = renewed

    def _read(self) -> bytes:
        try:
            return self._place.read_bytes()
        except OSError:  # the program logged out, or is just replacing it
            return b""


@contextlib.contextmanager
def lend_login(file: Path, place: Path, *, linked: bool, until: float) -> Iterator[Login]:
    """Lend the login *file* to the caller alone, at *place*: as a link, or else as a working copy.

    Waits for other borrowers until the clock ``time.monotonic`` says *until*.

    :raises LoginBusyError: it was not free by then.
    :raises BackendError: it cannot be read, locked or, after a renewal, saved.
    """
    original = file.resolve()
    # The folder is locked, not the file: a renewal may replace the file, and a lock on the old one guards nothing.
    try:
        folder = os.open(original.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        message = f"the login {file} cannot be used: {error}"
        raise BackendError(message) from error
    try:
        _lock(folder, file, until)
        try:
            place.unlink(missing_ok=True)  # of an earlier try of the same proposal
            login = Login(original, place, linked=linked)
        except OSError as error:
            message = f"the login {file} cannot be used: {error}"
            raise BackendError(message) from error
        try:
            yield login
        except BaseException:
            with contextlib.suppress(BackendError):  # what ended the loan matters more
                login.save()
            raise
        login.save()
    finally:
        os.close(folder)


def _lock(folder: int, file: Path, until: float) -> None:
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                message = f"the login {file} is in use by another run, and serves one at a time"
                raise LoginBusyError(message) from None
            time.sleep(PAUSE)
        except OSError as error:
            message = f"the login {file} cannot be locked: {error}"
            raise BackendError(message) from error
        else:
            return


def _write_private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(original: Path, content: bytes) -> None:
    """Put *content* in place of *original*, or into it where it cannot be replaced (a mount, a read-only folder)."""
    renewed = original.with_name(f".{original.name}.{os.getpid()}")
    try:
        _write_private(renewed, content)
        renewed.replace(original)
    except OSError:
        with original.open("r+b") as file:
            file.write(content)
            file.truncate()
    finally:
        with contextlib.suppress(OSError):
            renewed.unlink()


def _walk(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name not in _PUBLIC:
                yield from _walk(f"{key}.{name}" if key else str(name), inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _walk(f"{key}[{number}]", inner)
