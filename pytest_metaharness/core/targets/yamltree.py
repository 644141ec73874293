"""YAML text, or plain data, as a tree of nodes that know their lines. Nothing is constructed that could surprise.

The text is read as a stream of parse events, without recursion, so that deep nesting, aliases that expand to billions
of values, tags that name Python objects and numbers of a million digits are noticed before they cost anything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, time
from typing import Any, Literal, NoReturn

import msgspec
import yaml
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

MAX_DEPTH = 50
"""Levels of nesting; a target uses five."""

MAX_VALUES = 100_000
"""Values of one tree, aliases counted in full; a long text counts as one value per 32 characters."""

MAX_NUMBER = 300
"""Characters of a number; every float has fewer digits before its point."""

SHOWN = 60
"""Characters of a value that a message shows."""

_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # the C loader is ten times faster, and may be missing
_STR_TAG = "tag:yaml.org,2002:str"
_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A value and the line (from 1) where it begins, or where its key stands; ``None`` in data that has no lines."""

    line: int | None


class Scalar(Node, frozen=True, kw_only=True):
    """A single value. *written* is the unquoted YAML text it was read from; a date stays text."""

    type: Literal["text", "number", "boolean", "date", "nothing"]
    value: Any
    written: str | None = None


class Items(Node, frozen=True, kw_only=True):
    """A list."""

    nodes: tuple[Node, ...]


class Pairs(Node, frozen=True, kw_only=True):
    """A mapping in written order; keys may be anything and may repeat."""

    nodes: tuple[tuple[Node, Node], ...]


class Faulty(Node, frozen=True, kw_only=True):
    """A value that cannot be had at all; *fault* says why."""

    fault: str


class SyntaxProblem(ValueError):
    """Text from which no tree can be made; *line* counts from 1."""

    def __init__(self, line: int | None, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.text = text


# ------------------------------------------------------------------------------------------------------ from text


def read_tree(text: str) -> Node | None:
    """Give the root of the one document in *text*, or ``None`` where it has none.

    :raises SyntaxProblem: no YAML, several documents, nested too deeply, too many values.
    """
    if found := _NOT_YAML.search(text):
        line = text.count("\n", 0, found.start()) + 1
        _fail(line, f"not valid YAML: control character {found.group()!r} in the text")
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise _explain(error, text) from None
    except yaml.YAMLError as error:
        _fail(None, f"not valid YAML: {' '.join(str(error).split())}")
    return builder.root


class _Open:
    """A list or mapping whose end is not read yet."""

    __slots__ = ("anchor", "is_mapping", "line", "nodes", "size", "tag")

    def __init__(self, event: yaml.CollectionStartEvent, line: int) -> None:
        self.is_mapping = isinstance(event, yaml.MappingStartEvent)
        self.anchor = event.anchor
        self.tag = event.tag
        self.line = line
        self.nodes: list[Node] = []
        self.size = 1


class _Builder:
    """The tree so far. Sizes are those of the tree with every alias written out."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int] | None] = {}  # None: its value is not complete yet
        self._size = 0

    def take(self, event: yaml.Event) -> None:
        """Go on by one event."""
        if isinstance(event, yaml.ScalarEvent):
            self._add(_read_scalar(event, self._line(event)), 1 + len(event.value) // 32, event.anchor)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(self._stack) == MAX_DEPTH:
                _fail(_begin(event), f"nested too deeply (more than {MAX_DEPTH} levels)")
            self._stack.append(_Open(event, self._line(event)))
            if event.anchor is not None:
                self._anchors[event.anchor] = None
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close(self._stack.pop())
        elif isinstance(event, yaml.AliasEvent):
            self._add(*self._resolve(event.anchor or "", self._line(event)), None)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            _fail(_begin(event), "a second document begins here; one file holds one document")

    def _line(self, event: yaml.Event) -> int:
        # A mapping's value belongs to the line of its key, which is where a reader looks for it.
        if self._stack:
            parent = self._stack[-1]
            if parent.is_mapping and len(parent.nodes) % 2:
                return parent.nodes[-1].line or 1
        return _begin(event)

    def _close(self, opened: _Open) -> None:
        node: Node
        if opened.tag is not None:
            node = Faulty(line=opened.line, fault=_tag_fault(opened.tag))
        elif opened.is_mapping:
            pairs = tuple(zip(opened.nodes[::2], opened.nodes[1::2], strict=True))
            node = Pairs(line=opened.line, nodes=pairs)
        else:
            node = Items(line=opened.line, nodes=tuple(opened.nodes))
        self._size -= opened.size - 1  # its parts were counted one by one, and _add counts it whole
        self._add(node, opened.size, opened.anchor)

    def _resolve(self, name: str, line: int) -> tuple[Node, int]:
        if name not in self._anchors:
            return Faulty(line=line, fault=_no_anchor(name)), 1
        anchored = self._anchors[name]
        if anchored is None:
            return Faulty(line=line, fault=f"alias *{cut(name)} stands inside the value it refers to"), 1
        node, size = anchored
        return msgspec.structs.replace(node, line=line), size

    def _add(self, node: Node, size: int, anchor: str | None) -> None:
        self._size += size
        if self._size > MAX_VALUES:
            _fail(node.line, f"too many values (more than {MAX_VALUES}; aliases count in full)")
        if anchor is not None:
            self._anchors[anchor] = node, size
        if self._stack:
            self._stack[-1].nodes.append(node)
            self._stack[-1].size += size
        else:
            self.root = node


def _begin(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _read_scalar(event: yaml.ScalarEvent, line: int) -> Node:
    if event.tag not in {None, _STR_TAG}:
        return Faulty(line=line, fault=_tag_fault(event.tag))
    text = event.value
    if event.tag is None and event.implicit[0]:
        for tag, pattern in Resolver.yaml_implicit_resolvers.get(text[:1], ()):
            if pattern.match(text):
                return _read_plain(tag, text, line)
        return _text_node(text, line, text)
    return _text_node(text, line, None)


def _read_plain(tag: str, text: str, line: int) -> Node:
    """Give what YAML 1.1 makes of an unquoted word that is not plainly text."""
    match tag.rpartition(":")[2]:
        case "null":
            return Scalar(line=line, type="nothing", value=None, written=text)
        case "bool":
            return Scalar(line=line, type="boolean", value=SafeConstructor.bool_values[text.lower()], written=text)
        case "timestamp":
            return Scalar(line=line, type="date", value=text, written=text)
        case "int" | "float" as kind:
            return Scalar(line=line, type="number", value=_read_number(kind, tag, text), written=text)
    return _text_node(text, line, text)


def _read_number(kind: str, tag: str, text: str) -> int | float:
    if len(text) > MAX_NUMBER:
        return math.inf
    node = yaml.ScalarNode(tag, text)
    constructor = SafeConstructor()
    try:
        number = constructor.construct_yaml_int(node) if kind == "int" else constructor.construct_yaml_float(node)
    except ValueError:  # "0x_" looks like a number to YAML, and is none
        return math.nan
    return int(number) if kind == "int" else float(number)


def _text_node(text: str, line: int | None, written: str | None) -> Node:
    if "\0" in text:
        return Faulty(line=line, fault="must not contain a NUL character")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return Faulty(line=line, fault="must not contain half of a surrogate pair")
    return Scalar(line=line, type="text", value=text, written=written)


def _no_anchor(name: str) -> str:
    return f"*{cut(name)} refers to an anchor that is not there (text that begins with * must be quoted)"


def _tag_fault(tag: str) -> str:
    shown = cut(tag.replace("tag:yaml.org,2002:", "!!"))
    return f"YAML tags are not supported, got {shown} (text that begins with ! must be quoted)"


def _explain(error: yaml.MarkedYAMLError, text: str) -> SyntaxProblem:
    problem = error.problem or "cannot be read"
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return SyntaxProblem(None, f"not valid YAML: {problem}")
    if error.context and error.context_mark and error.problem:
        problem += f" {error.context}"
        if error.context_mark.line != mark.line:
            problem += f" that begins on line {error.context_mark.line + 1}"
    character = text[mark.index : mark.index + 1]
    if "unknown escape" in problem:
        problem += " (a backslash is special in double quotes: use single quotes)"
    elif "cannot start any token" in problem and character:
        problem += " (a tab: indent with spaces)" if character == "\t" else f" ({character}: quote the text)"
    elif "scanning an alias" in problem:
        problem += " (text that begins with * must be quoted)"
    elif "mapping values are not allowed" in problem:
        problem += " (text with ': ' in it must be quoted)"
    return SyntaxProblem(mark.line + 1, f"not valid YAML: column {mark.column + 1}: {' '.join(problem.split())}")


def _fail(line: int | None, text: str) -> NoReturn:
    raise SyntaxProblem(line, text)


# ------------------------------------------------------------------------------------------------------ from data


def plain_tree(data: object, *, depth: int = 0) -> Node:
    """Give the tree of *data* as TOML has it, or Python code; nodes in it stay. What is no plain data is a fault."""
    if depth > MAX_DEPTH:
        return Faulty(line=None, fault=f"nested too deeply (more than {MAX_DEPTH} levels)")
    match data:
        case None:
            return Scalar(line=None, type="nothing", value=None)
        case bool():
            return Scalar(line=None, type="boolean", value=data)
        case int() if data.bit_length() > MAX_NUMBER:
            return Scalar(line=None, type="number", value=math.inf)
        case int() | float():
            return Scalar(line=None, type="number", value=data)
        case str():
            return _text_node(data, None, None)
        case Mapping():
            pairs = [(plain_tree(key), plain_tree(value, depth=depth + 1)) for key, value in data.items()]
            return Pairs(line=None, nodes=tuple(pairs))
        case list() | tuple():
            return Items(line=None, nodes=tuple(plain_tree(item, depth=depth + 1) for item in data))
        case date() | time():
            return Scalar(line=None, type="date", value=str(data))
        case Node():
            return data
        case _:
            kinds = "text, a number, true, false, a list or a mapping"
            return Faulty(line=None, fault=f"must be {kinds}, got {cut(repr(data))}")


# ------------------------------------------------------------------------------------------------------ for people


def cut(text: str) -> str:
    """Give *text* on one printable line, control characters escaped, cut when long."""
    shown = escape(text[:SHOWN])
    return f"{shown}..." if len(text) > SHOWN else shown


def escape(text: str) -> str:
    """Give *text* with every character that is not printable as a backslash escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def show(node: Node) -> str:
    """Give what stands in the file, for the words after "got"."""
    if isinstance(node, Items):
        return "a list" if node.nodes else "an empty list"
    if isinstance(node, Pairs):
        return "a mapping" if node.nodes else "an empty mapping"
    if not isinstance(node, Scalar):
        return "something unreadable"
    match node.type:
        case "text":
            return f"'{cut(node.value)}'"
        case "boolean":
            return "true" if node.value else "false"
        case "nothing":
            return "nothing"
        case "date":
            return f"the date {cut(node.value)}"
        case "number":
            # str() of an integer is refused by Python beyond 4300 digits; such a one is always a written one
            huge = node.written is not None and (len(node.written) > SHOWN or not math.isfinite(node.value))
            return cut(str(node.written)) if huge else cut(repr(node.value))
