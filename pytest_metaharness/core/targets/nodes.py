"""Values as trees of nodes that know their lines: what they are, how plain data becomes one, how people see them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from datetime import date, time
from typing import Any, Literal

import msgspec

MAX_DEPTH = 50
"""Levels of nesting; a target uses five."""

MAX_VALUES = 20_000
"""Values of one tree, aliases counted in full; a long text counts as one value per 32 characters."""

MAX_NUMBER = 300
"""Characters of a number; every float has fewer digits before its point."""

SHOWN = 60
"""Characters of a value that a message shows."""


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


def text_node(text: str, line: int | None, written: str | None) -> Node:
    """Give the node of a text, or of the fault that it has."""
    if "\0" in text:
        return Faulty(line=line, fault="must not contain a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return Faulty(line=line, fault="must not contain half of a surrogate pair")
    return Scalar(line=line, type="text", value=text, written=written)


# ------------------------------------------------------------------------------------------------------ from data


def plain_tree(data: object) -> Node:
    """Give the tree of *data* as TOML has it, or Python code; nodes in it stay. What is no plain data is a fault."""
    try:
        return _read_plain_data(data, 0, itertools.count(1))
    except OverflowError:
        return Faulty(line=None, fault=f"has too many values (more than {MAX_VALUES})")


def _read_plain_data(data: object, depth: int, numbers: Iterator[int]) -> Node:
    """Read one value of *depth*; data can hold itself more than once, so *numbers* counts its values.

    :raises OverflowError: they are too many.
    """
    if next(numbers) > MAX_VALUES:
        raise OverflowError
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
            return text_node(data, None, None)
        case Mapping():
            pairs = [
                (_read_plain_data(key, depth, numbers), _read_plain_data(value, depth + 1, numbers))
                for key, value in data.items()
            ]
            return Pairs(line=None, nodes=tuple(pairs))
        case list() | tuple():
            return Items(line=None, nodes=tuple(_read_plain_data(item, depth + 1, numbers) for item in data))
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
