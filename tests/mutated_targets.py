"""Ways in which a good target file goes bad: a slip of the pen, a merge, another program, a disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Edit = tuple[str, int, int]
"""The name of a mutation, and two numbers that say where and how; any will do."""

_KEY = re.compile(rb"(?<![\w.-])[\w.-]+(?=: |:\n)")
_VALUE = re.compile(rb"(?<=: )[^,{}\[\]\n]+")

_KEYS = (
    b"Goal",
    b"check",
    b"checks",
    b"weights",
    b"1",
    b"yes",
    b"~",
    b"<<",
    b'""',
    b"a b",
    b"x" * 2000,
    b"? [a]",
    b"!k",
    b"*k",
)
_VALUES = (
    *(
        b"",
        b"~",
        b"-1",
        b"0",
        b"1.5",
        b"true",
        b"no",
        b"''",
        b"x",
        b"a: b",
        b"[]",
        b"{}",
        b"[x]",
        b"{x: y}",
        b"[[[x]]]",
    ),
    *(b".nan", b"-.inf", b"1e999", b"1.0e+999", b"9" * 400, b"0x" + b"f" * 400, b"0x_", b"010", b"1:30", b"0b2", b"+"),
    *(b"2024-01-01", b"2024-99-99", b"2024-01-01T00:00:00Z", b"|", b">-", b"|9", b"&a x", b"*a", b"*nowhere", b"&a *a"),
    *(
        b"!!python/object/apply:os.system [x]",
        b"!!int x",
        b"! x",
        b"!!binary x",
        b'"\\ud800"',
        b'"\\U7fffffff"',
        b'"\\0"',
    ),
    *(
        b"[" * 60 + b"]" * 60,
        b"{a: " * 60 + b"}" * 60,
        b"[" * 5000,
        b"x" * 70_000,
        b"'" + b"x " * 3000,
        b'"\\',
        b"@x",
        b"`x`",
    ),
    *(
        "é".encode(),
        "\u2028".encode(),
        "\U0001f600".encode(),
        b"/",
        b"..",
        b"a/../..",
        b"a/" * 3000,
        b"%x",
        b"# x",
        b"? x",
    ),
)
_TOKENS = (
    *(
        b"\t",
        b"\n",
        b":",
        b": ",
        b"-",
        b"- ",
        b"[",
        b"]",
        b"{",
        b"}",
        b"&",
        b"&a ",
        b"*",
        b"*a ",
        b"!",
        b"!!map ",
        b"|",
        b">",
    ),
    *(
        b"'",
        b'"',
        b"%",
        b"@",
        b"#",
        b" #",
        b",",
        b"?",
        b"? ",
        b"~",
        b"=",
        b"<<: *a",
        b"\\",
        b"yes",
        b"0",
        b"e9",
        b"\r",
        b"\x85",
    ),
    *(
        b"\0",
        b"\a",
        b"\x1b[2J",
        b"\x7f",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\xe2\x80\xae",
        b"\xf4\x90\x80\x80",
    ),
)
_LINES = (
    *(
        b"---",
        b"...",
        b"--- x",
        b"%YAML 1.1",
        b"%TAG ! x",
        b"goal: again",
        b"checks: {}",
        b"<<: {goal: x}",
        b"? a",
        b": b",
        b"- a",
    ),
    *(
        b"x: &x [*x]",
        b"a: &a [&b [x], *b, *b]",
        b"a: &a {b: *a}",
        b"gaol: x",
        b'"goal": x',
        b"# comment",
        b"  ",
        b"\t",
        b"}",
        b"]",
    ),
)
_CODES = ("utf-16", "utf-16-le", "utf-32", "utf-7", "latin-1", "cp1252", "utf-8-sig", "cp500")


def _at(content: bytes, where: int) -> int:
    return where % (len(content) + 1)


def _replace_match(pattern: re.Pattern[bytes], content: bytes, where: int, new: bytes) -> bytes:
    found = list(pattern.finditer(content))
    if not found:
        return new + content
    match = found[where % len(found)]
    return content[: match.start()] + new + content[match.end() :]


def _edit_line(edit: Callable[[bytes, int], Sequence[bytes]]) -> Callable[[bytes, int, int], bytes]:
    """Make a mutation of what replaces one line by several, or none."""

    def mutate(content: bytes, where: int, how: int) -> bytes:
        lines = content.split(b"\n")
        at = where % len(lines)
        return b"\n".join([*lines[:at], *edit(lines[at], how), *lines[at + 1 :]])

    return mutate


def _flip_bit(content: bytes, where: int, how: int) -> bytes:
    at = where % max(len(content), 1)
    return content[:at] + bytes(byte ^ (1 << how % 8) for byte in content[at : at + 1]) + content[at + 1 :]


def _put(content: bytes, where: int, new: bytes) -> bytes:
    return content[: _at(content, where)] + new + content[_at(content, where) :]


def _encode(content: bytes, _where: int, how: int) -> bytes:
    return content.decode("utf-8", "replace").encode(_CODES[how % len(_CODES)], "replace")


MUTATIONS: dict[str, Callable[[bytes, int, int], bytes]] = {
    "flip a bit": _flip_bit,
    "set a byte": lambda content, where, how: content[:where] + bytes([how % 256]) + content[where + 1 :],
    "put in": lambda content, where, how: _put(content, where, _TOKENS[how % len(_TOKENS)]),
    "cut out": lambda content, where, how: content[: _at(content, where)] + content[_at(content, where) + how % 40 :],
    "cut off": lambda content, where, how: content[: _at(content, where)],
    "repeat a part": lambda content, where, how: _put(content, where, content[where : where + how % 400]),
    "rename a key": lambda content, where, how: _replace_match(_KEY, content, where, _KEYS[how % len(_KEYS)]),
    "replace a value": lambda content, where, how: _replace_match(_VALUE, content, where, _VALUES[how % len(_VALUES)]),
    "drop a line": _edit_line(lambda line, how: ()),
    "repeat a line": _edit_line(lambda line, how: [line] * (2 + how % 40)),
    "indent a line": _edit_line(lambda line, how: [(b" " * (1 + how % 9) if how % 5 else b"\t") + line]),
    "dedent a line": _edit_line(lambda line, how: [line.removeprefix(b" " * (1 + how % 4))]),
    "comment a line out": _edit_line(
        lambda line, how: [line[: how % (len(line) + 1)] + b"#" + line[how % (len(line) + 1) :]]
    ),
    "put a line in": _edit_line(lambda line, how: [_LINES[how % len(_LINES)], line]),
    "break a line": _edit_line(lambda line, how: [line[: how % (len(line) + 1)], line[how % (len(line) + 1) :]]),
    "lengthen a line": _edit_line(lambda line, how: [line + (b" x" if how % 2 else b"x") * 20_000]),
    "repeat without end": lambda content, where, how: content * (2 + how % 400),
    "another code": _encode,
    "byte order mark": lambda content, where, how: b"\xef\xbb\xbf" * (1 + how % 3) + content,
    "CRLF": lambda content, where, how: content.replace(b"\n", b"\r\n"),
    "CR": lambda content, where, how: content.replace(b"\n", b"\r"),
    "no line ends": lambda content, where, how: content.replace(b"\n", b" "),
    "tabs": lambda content, where, how: content.replace(b"  ", b"\t"),
}


def mutate(content: bytes, edits: Sequence[Edit]) -> bytes:
    """Give *content* after *edits*, one after another; a little more than may be at most."""
    for name, where, how in edits:
        content = MUTATIONS[name](content, where, how)[: 300 * 1024]
    return content
