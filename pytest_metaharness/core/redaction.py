"""Keep secrets out of everything that is stored, shown or told to a backend."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, AnyStr
from urllib.parse import quote, quote_plus

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .processes.streams import Captured

BLOT = "***"
SHORTEST = 6
"""Values of fewer characters are ignored: they occur by chance, and blotting them out would garble everything."""

SECRET_LENGTH = 8
"""A variable that is passed through by name counts as a secret from this length on."""

_SHORTEST_PART = 8  # of base64: what a shorter piece matches is as likely an accident
_LINE = 76  # of base64, as the program of that name and MIME break it
_WINDOW = 1 << 20  # bytes searched at a time in a stream

_CREDENTIAL = re.compile(
    r"(?<![A-Z])(API|ACCESS)?(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS|PASSPHRASE|PASSCODE|CREDENTIAL|CRED|PAT|BEARER|COOKIE)"
    r"S?(?![A-Z])",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"(true|false|yes|no|on|off|none|null|enabled|disabled|[-+]?[0-9][0-9_.,:]*)", re.IGNORECASE)
_PATH_STARTS = ("~/", "./", "../", "file:")


class Redactor:
    """Knows secrets by name, and finds them as they are, JSON-escaped, percent-encoded and in base64.

    Values of fewer than SHORTEST characters are ignored.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets: dict[str, str] = {}
        self._forms: list[tuple[bytes, str, str]] = []  # as bytes, as text, name; longest first
        self.add(secrets)

    def add(self, secrets: Mapping[str, str]) -> None:
        """Take in more secrets, name -> value, for everything redacted from now on."""
        self._secrets.update(secrets)
        forms = {form: name for name, value in self._secrets.items() for form in _write_forms(value)}
        ordered = sorted(forms.items(), key=lambda item: (-len(item[0]), item))
        self._forms = [(_encode(form), form, name) for form, name in ordered]

    def with_secrets(self, more: Mapping[str, str]) -> Redactor:
        """Give a redactor that knows *more* secrets too; this one stays as it is."""
        return Redactor({**self._secrets, **more})

    def text(self, text: str) -> str:
        """Blot out every secret in *text*."""
        return _blot_out(text, [form for _, form, _ in self._forms], BLOT)

    def raw(self, data: bytes) -> bytes:
        """Blot out every secret in *data*."""
        return _blot_out(data, [form for form, _, _ in self._forms], BLOT.encode())

    def captured(self, captured: Captured) -> Captured:
        """Blot out every secret in the two ends of a stream, and cut off what may be left of one at the gap."""
        if not captured.dropped:
            return msgspec.structs.replace(captured, head=self.raw(captured.head + captured.tail), tail=b"")
        edge = max((len(form) for form, _, _ in self._forms), default=1) - 1
        head, tail = self.raw(captured.head), self.raw(captured.tail)
        head, tail = head[: max(0, len(head) - edge)], tail[edge:]
        return msgspec.structs.replace(
            captured, head=head, tail=tail, dropped=max(1, captured.total - len(head) - len(tail))
        )

    def folder(self, folder: Path) -> None:
        """Blot out every secret in the files of *folder*, in their names, and in the targets of links."""
        for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder itself
            if path.is_symlink():
                if self.text(target := str(path.readlink())) != target:
                    path.unlink()
                    path.symlink_to(self.text(target))
            elif path.is_file():
                content = path.read_bytes()
                if (redacted := self.raw(content)) != content:
                    path.write_bytes(redacted)
            if (name := self.text(path.name)) != path.name:
                path.rename(path.with_name(name))

    def find(self, chunks: Iterable[bytes]) -> str | None:
        """Name the first secret in the stream that *chunks* make up, wherever it is cut; ``None``: there is none."""
        if not self._forms:
            return None
        overlap = max(len(form) for form, _, _ in self._forms) - 1
        for window in _join(chunks, overlap):
            hits = [(at, -len(form), name) for form, _, name in self._forms if (at := window.find(form)) >= 0]
            if hits:
                return min(hits)[2]
        return None


def environment_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Give the variables whose name says that they hold a credential, and whose value may well be one.

    Such a name has a word like KEY or TOKEN in it. Values under 8 characters, numbers, switches and paths are none.
    """
    return {
        name: value
        for name, value in environ.items()
        if _CREDENTIAL.search(name) and len(value) >= 8 and not _NO_SECRET.fullmatch(value) and not _is_path(value)
    }


def _is_path(value: str) -> bool:
    if value.startswith(_PATH_STARTS):
        return True
    top = "/".join(value.split("/", 2)[:2])  # a base64 value may begin with a slash, but hardly with a folder's name
    return value.startswith("/") and len(top) > 1 and Path(top).exists()


def _join(chunks: Iterable[bytes], overlap: int) -> Iterator[bytes]:
    """Give windows of the stream so that everything up to *overlap* + 1 bytes long lies whole in one of them."""
    window = bytearray()
    fresh = 0
    for chunk in chunks:
        window += chunk
        fresh += len(chunk)
        if fresh >= _WINDOW:
            yield bytes(window)
            del window[: len(window) - overlap]
            fresh = 0
    if fresh:
        yield bytes(window)


def _blot_out(text: AnyStr, forms: list[AnyStr], blot: AnyStr) -> AnyStr:
    """Replace what any form covers; forms that overlap become one blot, so that nothing is left of either."""
    covered = sorted(span for form in forms for span in _find_all(text, form))
    if not covered:
        return text
    pieces = []
    end = 0
    for start, stop in covered:
        if start >= end:
            pieces += [text[end:start], blot]
        end = max(end, stop)
    pieces.append(text[end:])
    return text[:0].join(pieces)


def _find_all(text: AnyStr, form: AnyStr) -> Iterator[tuple[int, int]]:
    at = text.find(form)
    while at >= 0:
        yield at, at + len(form)
        at = text.find(form, at + 1)


def _write_forms(value: str) -> set[str]:
    """Write a secret in every way in which it commonly appears."""
    if len(value.strip()) < SHORTEST:
        return set()
    values = {value, value.strip()}
    forms = set(values)
    for each in values:
        once = {_escape(each, ascii_only=True), _escape(each, ascii_only=False)}
        twice = {_escape(escaped, ascii_only=False) for escaped in once}  # a log line inside a log line
        upper = {re.sub(r"(?<=\\u)[0-9a-f]{4}", lambda digits: digits[0].upper(), form) for form in once}
        slashes = {form.replace("/", "\\/") for form in once}
        raw = _encode(each)
        percent = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
        lower = {re.sub("%[0-9A-F]{2}", lambda digits: digits[0].lower(), form) for form in percent}
        forms |= once | twice | upper | slashes | percent | lower
        forms.update(_write_base64(raw))
    return forms


def _escape(value: str, *, ascii_only: bool) -> str:
    return json.dumps(value, ensure_ascii=ascii_only)[1:-1]


def _write_base64(raw: bytes) -> Iterator[str]:
    """Write *raw* as it looks alone, in lines, and what is certain of it at any place within something longer."""
    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        alone = encode(raw).decode()
        lines = [alone[start : start + _LINE] for start in range(0, len(alone), _LINE)]
        for form in (alone, *(line for line in lines if len(line) >= _SHORTEST_PART)):
            yield from (form, form.rstrip("="))
        for before in (0, 1, 2):
            within = encode(bytes(before) + raw).decode()
            certain = within[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6]
            if len(certain) >= _SHORTEST_PART:
                yield certain


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair, as JSON can have it
        return text.encode("utf-8", "surrogatepass")
