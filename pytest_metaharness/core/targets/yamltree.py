"""YAML text as a tree of nodes that know their lines. Nothing is constructed that could surprise.

The text is read as a stream of parse events, without recursion, so that deep nesting, aliases that expand to billions
of values, tags that name Python objects and numbers of a million digits are noticed before they cost anything.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from typing import Any, NoReturn

import msgspec
import yaml
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from .nodes import MAX_DEPTH, MAX_NUMBER, MAX_VALUES, Faulty, Items, Node, Pairs, Scalar, cut, text_node

__all__ = ("Pairs", "Scalar", "SyntaxProblem", "count_lines", "read_tree")  # with the nodes that callers look into

_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # the C loader is ten times faster, and may be missing
_STR_TAG = "tag:yaml.org,2002:str"
_ODD_BREAK = re.compile("[\x85\u2028\u2029]")
_BREAK = re.compile("\r\n|\n|\r")
_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class SyntaxProblem(ValueError):
    """Text from which no tree can be made; *line* counts from 1."""

    def __init__(self, line: int | None, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.text = text


def read_tree(text: str) -> Node | None:
    """Give the root of the one document in *text*, or ``None`` where it has none.

    :raises SyntaxProblem: no YAML, several documents, nested too deeply, too many values.
    """
    if found := _NOT_YAML.search(text):
        line = count_lines(text[: found.start()])
        _fail(line, f"not valid YAML: control character {found.group()!r} in the text")
    if not text.isascii() and _ODD_BREAK.search(text):
        return _read_events(text, [found.start() for found in _BREAK.finditer(text)])
    return _read_events(text, None)


def count_lines(text: str) -> int:
    """Give the number of the line at which *text* ends, as an editor counts."""
    return sum(1 for _ in _BREAK.finditer(text)) + 1


def _read_events(text: str, breaks: list[int] | None) -> Node | None:
    builder = _Builder(breaks)
    parser = _LOADER(text)
    try:
        while (event := parser.get_event()) is not None:
            builder.take(event)
    except SyntaxProblem:
        raise
    except (ValueError, OverflowError):  # of chr(), where there is no C loader
        _fail(parser.line + 1, "not valid YAML: found an escape that stands for no character")
    except yaml.MarkedYAMLError as error:
        raise _explain(error, text, breaks) from None
    except yaml.YAMLError as error:
        _fail(None, f"not valid YAML: {' '.join(str(error).split())}")
    finally:
        parser.dispose()
    return builder.root


def _find_line(mark: Any, breaks: list[int] | None) -> int:
    """Give the line of *mark*. YAML ends lines at three characters more than editors do, which count by *breaks*."""
    return mark.line + 1 if breaks is None else bisect_left(breaks, mark.index) + 1


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

    def __init__(self, breaks: list[int] | None) -> None:
        self.root: Node | None = None
        self._breaks = breaks
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int] | None] = {}  # None: its value is not complete yet
        self._size = 0

    def take(self, event: yaml.Event) -> None:
        """Go on by one event."""
        if isinstance(event, yaml.ScalarEvent):
            self._add(_read_scalar(event, self._line(event)), 1 + len(event.value) // 32, event.anchor)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(self._stack) == MAX_DEPTH:
                _fail(self._begin(event), f"nested too deeply (more than {MAX_DEPTH} levels)")
            self._stack.append(_Open(event, self._line(event)))
            if event.anchor is not None:
                self._anchors[event.anchor] = None
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close(self._stack.pop())
        elif isinstance(event, yaml.AliasEvent):
            self._add(*self._resolve(event.anchor or "", self._line(event)), None)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            _fail(self._begin(event), "a second document begins here; one file holds one document")

    def _line(self, event: yaml.Event) -> int:
        # A mapping's value belongs to the line of its key, which is where a reader looks for it.
        if self._stack:
            parent = self._stack[-1]
            if parent.is_mapping and len(parent.nodes) % 2:
                return parent.nodes[-1].line or 1
        return self._begin(event)

    def _begin(self, event: yaml.Event) -> int:
        mark: Any = event.start_mark
        return mark.line + 1 if self._breaks is None else _find_line(mark, self._breaks)

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


def _read_scalar(event: yaml.ScalarEvent, line: int) -> Node:
    if event.tag not in {None, _STR_TAG}:
        return Faulty(line=line, fault=_tag_fault(event.tag))
    text = event.value
    if event.tag is None and event.implicit[0]:
        for tag, pattern in Resolver.yaml_implicit_resolvers.get(text[:1], ()):
            if pattern.match(text):
                return _read_plain(tag, text, line)
        return text_node(text, line, text)
    return text_node(text, line, None)


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
    return text_node(text, line, text)


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


def _no_anchor(name: str) -> str:
    return f"*{cut(name)} refers to an anchor that is not there (text that begins with * must be quoted)"


def _tag_fault(tag: str) -> str:
    shown = cut(tag.replace("tag:yaml.org,2002:", "!!"))
    return f"has the YAML tag {shown}, and tags are not supported (text that begins with ! must be quoted)"


def _explain(error: yaml.MarkedYAMLError, text: str, breaks: list[int] | None) -> SyntaxProblem:
    problem = error.problem or "cannot be read"
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return SyntaxProblem(None, f"not valid YAML: {problem}")
    if error.context and error.context_mark and error.problem:
        problem += f" {error.context}"
        if mark.index >= len(text.rstrip()):  # what was never closed is where it was opened
            mark = error.context_mark
        elif error.context_mark.line != mark.line:
            problem += f" that begins on line {_find_line(error.context_mark, breaks)}"
    character = text[mark.index : mark.index + 1]
    if "unknown escape" in problem:
        problem += " (a backslash is special in double quotes: use single quotes)"
    elif "cannot start any token" in problem and character:
        problem += " (a tab: indent with spaces)" if character == "\t" else f" ({character}: quote the text)"
    elif "scanning an alias" in problem:
        problem += " (text that begins with * must be quoted)"
    elif "mapping values are not allowed" in problem:
        problem += " (text with ': ' in it must be quoted)"
    before = text[: min(mark.index, len(text.rstrip()))]  # libyaml ends the last line, and there may be no next one
    column = len(before) - max(before.rfind("\n"), before.rfind("\r"))
    return SyntaxProblem(count_lines(before), f"not valid YAML: column {column}: {' '.join(problem.split())}")


def _fail(line: int | None, text: str) -> NoReturn:
    raise SyntaxProblem(line, text)
