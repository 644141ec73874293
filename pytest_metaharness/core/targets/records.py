"""Schemas of lists and mappings. A mapping is closed: a key that is not named is a problem."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .nodes import Faulty, Items, Node, Pairs, Scalar, cut, show
from .schema import INVALID, Problems, Schema, Text, advise_quotes, find_nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One key of a mapping with its value. *key* is the dotted name; a repeated key has *is_first* false."""

    name: str
    key: str
    line: int | None
    node: Node
    is_first: bool


def read_entries(node: Pairs, key: str, problems: Problems) -> Iterator[Entry]:
    """Give the entries of a mapping whose keys are text, also repeated ones, noting the problems of the keys."""
    first_lines: dict[str, int | None] = {}
    for name_node, value_node in node.nodes:
        if isinstance(name_node, Faulty):
            problems.add(name_node.line, key, f"a key {name_node.fault}")
            continue
        if not isinstance(name_node, Scalar) or name_node.type != "text":
            problems.add(name_node.line, key, f"a key must be text, got {show(name_node)}{advise_quotes(name_node)}")
            continue
        name = name_node.value
        entry_key = join(key, name)
        if name == "<<" and name_node.written is not None:
            problems.add(name_node.line, entry_key, "merge keys are not supported: write the keys out")
            continue
        is_first = name not in first_lines
        if is_first:
            first_lines[name] = name_node.line
        else:
            first = first_lines[name]
            problems.add(name_node.line, entry_key, "given twice" + (f", first on line {first}" if first else ""))
        yield Entry(name=name, key=entry_key, line=name_node.line, node=value_node, is_first=is_first)


def join(key: str, name: str) -> str:
    """Give the dotted name of the key *name* in the value called *key*."""
    shown = cut(name) or "''"
    return f"{key}.{shown}" if key else shown


@dataclass(frozen=True, kw_only=True)
class ListOf(Schema):
    """A list of equals, given as a tuple."""

    item: Schema
    minimum: int = 0

    @property
    def expects(self) -> str:
        return "a list"

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        if not isinstance(node, Items):
            is_single = isinstance(node, Scalar) and node.type != "nothing"
            return self.refuse(node, key, problems, " (write a list: [...])" if is_single else "")
        if len(node.nodes) < self.minimum:
            problems.add(node.line, key, "must not be an empty list")
            return INVALID
        values = [self.item.read(item, f"{key}[{index}]", problems) for index, item in enumerate(node.nodes)]
        return INVALID if INVALID in values else tuple(values)

    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "array", "items": self.item.json_schema()}
        return schema | {"minItems": self.minimum} if self.minimum else schema


@dataclass(frozen=True, kw_only=True)
class MappingOf(Schema):
    """A mapping from names of the user's choice to values, given as a dictionary in written order."""

    name: Text
    value: Schema
    minimum: int = 0

    @property
    def expects(self) -> str:
        return "a mapping"

    def value_of(self, name: str) -> Schema:  # noqa: ARG002 - for schemas whose values depend on their names
        """Give the schema of the value called *name*."""
        return self.value

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        if not isinstance(node, Pairs):
            return self.refuse(node, key, problems)
        if len(node.nodes) < self.minimum:
            problems.add(node.line, key, "must not be empty")
            return INVALID
        values: dict[str, Any] = {}
        for entry in read_entries(node, key, problems):
            named = Scalar(line=entry.line, type="text", value=entry.name)
            name = self.name.read(named, entry.key, problems)
            value = self.value_of(entry.name).read(entry.node, entry.key, problems)
            if entry.is_first and name is not INVALID and value is not INVALID:
                values[name] = value
        return values

    def json_schema(self) -> dict[str, Any]:
        names = {key: value for key, value in self.name.json_schema().items() if key != "type"}
        schema: dict[str, Any] = {"type": "object", "additionalProperties": self.value.json_schema()}
        if names:
            schema["propertyNames"] = names
        return schema | {"minProperties": self.minimum} if self.minimum else schema


@dataclass(frozen=True, kw_only=True)
class Anything(Schema):
    """Any value that JSON has: lists become tuples, mappings dictionaries."""

    @property
    def expects(self) -> str:
        return "text, a number, true, false, a list or a mapping"

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        if isinstance(node, Items):
            return ListOf(item=self).read(node, key, problems)
        if isinstance(node, Pairs):
            return MappingOf(name=Text(least="nothing"), value=self).read(node, key, problems)
        if not isinstance(node, Scalar) or node.type == "date":
            return self.refuse(node, key, problems, advise_quotes(node))
        if node.type == "number" and not (math.isfinite(node.value) and abs(node.value) < 2**63):
            problems.add(node.line, key, f"must be a finite number of at most 63 bits, got {show(node)}")
            return INVALID
        return node.value

    def json_schema(self) -> dict[str, Any]:
        return {}


# -------------------------------------------------------------------------------------------------------- records


@dataclass(frozen=True)
class Field:
    """One key of a record: its schema, what it is for (for the editor), and its name in Python where that differs."""

    schema: Schema
    doc: str
    required: bool = field(default=False, kw_only=True)
    attribute: str | None = field(default=None, kw_only=True)


class Rule(ABC):
    """What the keys of a record ask of each other."""

    @abstractmethod
    def find_broken(self, given: Collection[str]) -> tuple[str | None, str] | None:
        """Give the key at fault (``None``: the record itself) and what is wrong, or ``None`` when all is well."""

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """Give the same rule as JSON Schema."""


@dataclass(frozen=True)
class ExactlyOne(Rule):
    """One of *keys* is given, and no second one."""

    keys: tuple[str, ...]

    def find_broken(self, given: Collection[str]) -> tuple[str | None, str] | None:
        found = [key for key in self.keys if key in given]
        if len(found) == 1:
            return None
        return None, f"must have exactly one of {', '.join(self.keys)}, found {' and '.join(found) or 'none'}"

    def json_schema(self) -> dict[str, Any]:
        return {"oneOf": [{"required": [key]} for key in self.keys]}


@dataclass(frozen=True)
class AtLeastOne(Rule):
    """One of *keys* or several are given."""

    keys: tuple[str, ...]

    def find_broken(self, given: Collection[str]) -> tuple[str | None, str] | None:
        if any(key in given for key in self.keys):
            return None
        return None, f"must have at least one of {', '.join(self.keys)}, found none"

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [{"required": [key]} for key in self.keys]}


@dataclass(frozen=True)
class OnlyWith(Rule):
    """*key* is given only where *other* is."""

    key: str
    other: str

    def find_broken(self, given: Collection[str]) -> tuple[str | None, str] | None:
        if self.key not in given or self.other in given:
            return None
        return self.key, f"is allowed only together with {self.other}"

    def json_schema(self) -> dict[str, Any]:
        return {"dependentRequired": {self.key: [self.other]}}


@dataclass(frozen=True)
class NotWith(Rule):
    """*key* is not given where *other* is, for a *reason*."""

    key: str
    other: str
    reason: str

    def find_broken(self, given: Collection[str]) -> tuple[str | None, str] | None:
        if self.key not in given or self.other not in given:
            return None
        return self.key, f"must be left out together with {self.other}: {self.reason}"

    def json_schema(self) -> dict[str, Any]:
        return {"not": {"required": [self.key, self.other]}}


@dataclass(frozen=True, kw_only=True)
class Record(Schema):
    """A mapping with fixed keys, given as a dictionary of the keys that are given; *extra* reads any other key."""

    fields: Mapping[str, Field]
    rules: tuple[Rule, ...] = ()
    extra: Schema | None = None

    @property
    def expects(self) -> str:
        return f"a mapping with {', '.join(self.fields)}" if len(self.fields) < 8 else "a mapping"

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        if not isinstance(node, Pairs):
            return self.refuse(node, key, problems)
        values: dict[str, Any] = {}
        lines: dict[str, int | None] = {}
        for entry in read_entries(node, key, problems):
            known = self.fields.get(entry.name)
            schema = known.schema if known else self.extra
            if schema is None:
                problems.add(entry.line, entry.key, self._refuse_key(entry.name, problems))
                continue
            value = schema.read(entry.node, entry.key, problems)
            if entry.is_first:
                lines[entry.name] = entry.line
                if value is not INVALID:
                    values[known.attribute if known and known.attribute else entry.name] = value
        for name, wanted in self.fields.items():
            if wanted.required and name not in lines:
                problems.add(node.line, join(key, name), f"is required and missing; it must be {wanted.schema.expects}")
        for rule in self.rules:
            if broken := rule.find_broken(lines):
                name_at_fault, text = broken
                if name_at_fault is None:
                    problems.add(node.line, key, text)
                else:
                    problems.add(lines[name_at_fault], join(key, name_at_fault), text)
        return values

    def _refuse_key(self, name: str, problems: Problems) -> str:
        nearest = None if problems.are_too_many else find_nearest(name, self.fields)
        meant = f"; did you mean '{nearest}'?" if nearest else ""
        return f"unknown key '{cut(name)}' (known: {', '.join(self.fields)}{meant})"

    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: {"description": it.doc} | it.schema.json_schema() for name, it in self.fields.items()},
            "additionalProperties": False if self.extra is None else self.extra.json_schema(),
        }
        if required := [name for name, it in self.fields.items() if it.required]:
            schema["required"] = required
        if self.rules:
            schema["allOf"] = [rule.json_schema() for rule in self.rules]
        return schema
