"""Keep secrets out of everything that is stored, shown or told to a backend."""

from __future__ import annotations

import base64
import functools
import json
import operator
import re
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
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
_UNINDENT = operator.methodcaller("lstrip", b" \t")
_MARGIN = b"\nE "  # of what failed, as pytest shows it
_ESCAPED_BREAKS = (rb"\\r", rb"\\n", rb"\r", rb"\n")  # as JSON has them, also a log line inside a log line
_WINDOW = 1 << 20  # bytes searched at a time in a stream

CREDENTIAL_NAME = re.compile(
    r"(?<![A-Z])(API|ACCESS)?(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS|PASSPHRASE|PASSCODE|CREDENTIAL|CRED|PAT|BEARER|COOKIE)"
    r"S?(?![A-Z])",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"(true|false|yes|no|on|off|none|null|enabled|disabled|[-+]?[0-9][0-9_.,:]*)", re.IGNORECASE)
_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]+")  # in addresses (RFC 3986) and in JSON
_PATH_STARTS = ("~/", "./", "../", "file:")


class _Form(NamedTuple):
    """One way in which a secret is written, without line breaks."""

    raw: bytes
    name: str


class Redactor:
    """Knows secrets by name, and finds them as they are, JSON-escaped, percent-encoded and in base64.

    Line breaks within a secret, as programs put them into long lines, do not hide it. Values of fewer than SHORTEST
    characters are ignored. The time that it takes does not grow with the number of secrets.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._values: set[str] = set()
        self._forms: set[bytes] = set()
        self._indexes = (_Index("Q"), _Index("I"))
        self._short: list[_Form] = []  # for no index
        self._longest = 0
        self.add(secrets)

    def add(self, secrets: Mapping[str, str]) -> None:
        """Take in more secrets, name -> value, for everything redacted from now on; none is ever forgotten."""
        for name, value in secrets.items():
            if value in self._values:
                continue
            self._values.add(value)
            for raw in sorted(_spell(value) - self._forms):
                forms = next((index.forms for index in self._indexes if index.fits(raw)), self._short)
                forms.append(_Form(raw, name))
                self._longest = max(self._longest, len(raw))
            self._forms |= _spell(value)

    def text(self, text: str) -> str:
        """Blot out every secret in *text*."""
        data = _encode_text(text)
        if (redacted := self.raw(data)) == data:
            return text
        try:
            return redacted.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:  # the secret is no text itself and began in the middle of a character
            return redacted.decode("utf-8", "replace")

    def raw(self, data: bytes) -> bytes:
        """Blot out every secret in *data*; secrets that overlap become one blot, so that nothing is left of either."""
        covered = sorted({span for flat in _read_flat(data) for span in self._cover(data, flat)})
        pieces = []
        end = 0
        for start, stop in covered:
            if start >= end:
                pieces += [data[end:start], BLOT.encode()]
            end = max(end, stop)
        return b"".join((*pieces, data[end:])) if covered else data

    def captured(self, captured: Captured) -> Captured:
        """Blot out every secret in the two ends of a stream, and cut off what may be left of one at the gap."""
        if not captured.dropped:
            return msgspec.structs.replace(captured, head=self.raw(captured.head + captured.tail), tail=b"")
        head, tail = self.raw(captured.head), self.raw(captured.tail)
        head, tail = head[: max(0, len(head) - self._overlap)], tail[self._overlap :]
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
        for window in _make_windows(chunks, self._overlap):
            for flat in _read_flat(window):
                hits = [
                    (at, -len(form.raw), form.name) for form in self._guess(flat) if (at := flat.find(form.raw)) >= 0
                ]
                if hits:
                    return min(hits)[2]
        return None

    @property
    def _overlap(self) -> int:
        """The most bytes that a secret leaves of itself at the end of a window: each may have a line of its own."""
        return max(0, 2 * self._longest - 1)

    def _cover(self, data: bytes, flat: bytes) -> Iterator[tuple[int, int]]:
        """Give the places in *data* of the secrets in *flat*, which is *data* without its line breaks."""
        for form in self._guess(flat):
            if count := sum(1 for _ in _find_all(flat, form.raw)):
                whole = list(_find_all(data, form.raw))
                yield from whole
                if len(whole) < count:
                    yield from (found.span() for found in _compile_broken(form.raw).finditer(data))

    def _guess(self, flat: bytes) -> list[_Form]:
        """Give every form that *flat* has, and few others."""
        return [form for index in self._indexes for form in index.guess(flat)] + self._short


class _Index:
    """Tells which of many strings may occur in a text, in a time that does not grow with their number.

    The text is read in words of a fixed size. Wherever a string of two words less a byte lies, it has a whole word of
    the text in it, which begins at one of as many places of the string as a word has bytes. Of longer strings the end
    counts: keys of one kind begin alike.
    """

    FEW = 4  # forms that are faster looked for one by one

    def __init__(self, code: Literal["I", "Q"]) -> None:
        self.forms: list[_Form] = []
        self._code: Literal["I", "Q"] = code
        self._size = struct.calcsize(code)
        self._words: dict[int, list[_Form]] = {}
        self._known = 0

    def fits(self, raw: bytes) -> bool:
        """Tell whether a string is long enough."""
        return len(raw) >= 2 * self._size - 1

    def guess(self, data: bytes) -> Iterable[_Form]:
        """Give every form that occurs in *data*, and perhaps others."""
        if len(self.forms) <= self.FEW:
            return self.forms
        for form in self.forms[self._known :]:
            for end in range(len(form.raw) - self._size + 1, len(form.raw) + 1):
                word = int.from_bytes(form.raw[end - self._size : end], sys.byteorder)
                self._words.setdefault(word, []).append(form)
        self._known = len(self.forms)
        words = memoryview(data)[: len(data) // self._size * self._size].cast(self._code)
        found = self._words.keys() & words
        return dict.fromkeys(form for word in found for form in self._words[word])


def environment_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Give the variables whose name says that they hold a credential, and whose value may well be one.

    Such a name has a word like KEY or TOKEN in it. Values under 8 characters, numbers, switches and paths are none.
    """
    return {
        name: value
        for name, value in environ.items()
        if CREDENTIAL_NAME.search(name) and len(value) >= 8 and not _NO_SECRET.fullmatch(value) and not is_path(value)
    }


def is_path(value: str) -> bool:
    if value.startswith(_PATH_STARTS):
        return True
    top = "/".join(value.split("/", 2)[:2])  # a base64 value may begin with a slash, but hardly with a folder's name
    return value.startswith("/") and len(top) > 1 and Path(top).exists()


def _make_windows(chunks: Iterable[bytes], overlap: int) -> Iterator[bytes]:
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


def _flatten(data: bytes) -> bytes:
    """Take out the line breaks, and the white space at the beginning of lines."""
    return b"".join(map(_UNINDENT, data.splitlines()))


def _read_flat(data: bytes) -> Iterator[bytes]:
    """Give *data* without its line breaks, in every way in which programs may have put them in."""
    flat = _flatten(data)
    yield flat
    if _MARGIN in data:
        yield _flatten(data.replace(_MARGIN, b"\n"))
    if (b"\\n" in flat or b"\\r" in flat) and b"\0" not in flat:
        for escaped in _ESCAPED_BREAKS:
            flat = flat.replace(escaped, b"")
        yield flat


def _compile_broken(form: bytes) -> re.Pattern[bytes]:
    """Make a pattern for *form* with line breaks anywhere in it."""
    letters = (re.escape(form[at : at + 1]) for at in range(len(form)))
    return re.compile(rb"(?:(?:[\r\n]|\\+[rn])(?:E?[ \t]+)?)*".join(letters))


def _find_all(data: bytes, form: bytes) -> Iterator[tuple[int, int]]:
    at = data.find(form)
    while at >= 0:
        yield at, at + len(form)
        at = data.find(form, at + 1)


@functools.lru_cache(maxsize=1024)  # every trial of a process has mostly the same
def _spell(value: str) -> frozenset[bytes]:
    """Give every form of a secret as bytes, without line breaks."""
    forms = {_flatten(encode(form)) for form in _write_forms(value) for encode in (_encode, _encode_text)}
    return frozenset(form for form in forms if len(form) >= SHORTEST)


def _write_forms(value: str) -> set[str]:
    """Write a secret in every way in which it commonly appears."""
    if len(value.strip()) < SHORTEST:
        return set()
    values = {value, value.strip()}
    forms = set(values)
    for each in values:
        raw = _encode(each)
        forms.update(_write_base64(raw))
        if _UNRESERVED.fullmatch(each):  # written alike everywhere
            continue
        once = {_escape(each, ascii_only=True), _escape(each, ascii_only=False)}
        twice = {_escape(escaped, ascii_only=False) for escaped in once}  # a log line inside a log line
        upper = {re.sub(r"(?<=\\u)[0-9a-f]{4}", lambda digits: digits[0].upper(), form) for form in once}
        slashes = {form.replace("/", "\\/") for form in once}
        percent = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
        lower = {re.sub("%[0-9A-F]{2}", lambda digits: digits[0].lower(), form) for form in percent}
        forms |= once | twice | upper | slashes | percent | lower
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
        return _encode_text(text)


def _encode_text(text: str) -> bytes:
    """Encode any text so that it can be decoded again, with halves of pairs and with bytes that are no text."""
    return text.encode("utf-8", "surrogatepass")
