"""Find the secrets in the text of a file where a tool keeps its login, whatever its format.

A value counts when the name before it says so (``token``, ``password`` and the like) and it looks like one: to blot out
words, paths and addresses would only garble what is stored, and refuse harmless files.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from .redaction import CREDENTIAL_NAME, is_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Found = tuple[str, str]
"""What a value is called where it stands, and the value."""

_LENGTHS = {1: 24, 2: 16, 3: 12, 4: 10}  # of a secret, by its kinds of characters: what is shorter may be a word
_KINDS = tuple(map(re.compile, ("[a-z]", "[A-Z]", "[0-9]", "[^a-zA-Z0-9]")))
_FEWEST_LETTERS = 8  # that differ
_NO_SECRET = re.compile(
    r"\s|^[$<%{]|^[a-z][a-z0-9+.-]*://|^[^@]+@[\w-]+(\.[\w-]+)+$|^\d{4}-\d\d-\d\d|example|change[_-]?me|your[_-]",
    re.IGNORECASE,
)
_MORE_NAMES = re.compile(r"(auth|refresh|access|(identity|registry)token)$", re.IGNORECASE)
_NO_NAME = re.compile(
    r"(^|[_-])(alias|algorithm|file|format|host|id|name|path|region|type|ur[il]|user)$", re.IGNORECASE
)
_PAIR = re.compile(r"""(?<![\w-])([\w-]+)["']?[ \t]*[:=][ \t]*(?:"([^"\n]*)"|'([^'\n]*)'|([^\s"']\S*))""")
_ELEMENT = re.compile(r"<(\w+)>([^<>\s]+)</")
_HEADER = re.compile(r"\b(?:basic|bearer|token) +(\S+)", re.IGNORECASE)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]{0,30}://[^\s/:@]*:([^\s/@]+)@", re.IGNORECASE)
_PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----(.*?)(?:-----END|\Z)", re.DOTALL)
_KEY_BREAK = re.compile(r"(?:\s|\\[rn])+")  # in JSON, too
_USER_AND_PASSWORD = re.compile(rb"""[^\s:"{}]*:(\S+)""")
_SHORTEST_LINE = 32  # of a private key; the last one may be of a few characters


def find_secrets(text: str, read: Callable[[str], Iterator[Found]]) -> Iterator[Found]:
    """Give the secrets in *text*: of what *read* finds, in addresses and HTTP headers, and private keys by line."""
    yield from _read_private_keys(text)
    for name, value in read(text):
        if _is_credential(name):
            yield from ((name, one) for one in (value, _decode_password(value)) if _looks_secret(one))
    for value in _HEADER.findall(text):
        yield from (("token", one) for one in (value, _decode_password(value)) if _looks_secret(one))
    for value in _URL.findall(text):
        yield from (("password", one) for one in (value, unquote(value)) if _looks_secret(one))


def read_pairs(text: str) -> Iterator[Found]:
    """Read JSON, or whatever has ``name: value``, ``name = value`` or ``<name>value</name>``."""
    try:
        tree = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        for name, *values in _PAIR.findall(text):
            yield name, next(filter(None, values), "").rstrip(",;")
        yield from _ELEMENT.findall(text)
    else:
        yield from _walk("", tree)


def read_netrc(text: str) -> Iterator[Found]:
    """Read ``password value``, as the manual of netrc has it, on one line or on several."""
    return itertools.pairwise(text.split())


def read_pgpass(text: str) -> Iterator[Found]:
    """Read the fifth field of each line, as PostgreSQL does."""
    return (("password", line.split(":", 4)[4]) for line in text.splitlines() if line.count(":") >= 4)


def read_whole(text: str) -> Iterator[Found]:
    """Read a file that is nothing but a token."""
    yield "token", text.strip()


def _walk(name: str, tree: Any) -> Iterator[Found]:
    if isinstance(tree, str):
        yield name, tree
    elif isinstance(tree, dict):
        for key, inner in tree.items():
            yield from _walk(str(key), inner)
    elif isinstance(tree, list):
        for inner in tree:
            yield from _walk(name, inner)


def _read_private_keys(text: str) -> Iterator[Found]:
    for kind, body in _PRIVATE_KEY.findall(text):
        lines = [line for line in _KEY_BREAK.split(body) if len(line) >= _SHORTEST_LINE]
        yield from (("private key", line) for line in lines[kind == "OPENSSH " :])  # all keys begin with the same line


def _decode_password(value: str) -> str:
    """Give the password of a "user:password" in base64, as HTTP has it; "" when it is none."""
    with contextlib.suppress(ValueError):
        if found := _USER_AND_PASSWORD.fullmatch(base64.b64decode(value, validate=True)):
            return found[1].decode()
    return ""


def _is_credential(name: str) -> bool:
    spelled = re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return not _NO_NAME.search(spelled) and bool(CREDENTIAL_NAME.search(spelled) or _MORE_NAMES.search(name))


def _looks_secret(value: str) -> bool:
    kinds = sum(1 for kind in _KINDS if kind.search(value))
    if not kinds or len(value) < _LENGTHS[kinds] or len(set(value)) < _FEWEST_LETTERS:
        return False
    return not (_NO_SECRET.search(value) or is_path(value))
