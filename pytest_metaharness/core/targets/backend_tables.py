"""The schema of backend tables, in a target file and in ``pyproject.toml``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from ..model import Backend
from .nodes import Node, Pairs, Scalar, plain_tree
from .records import Anything, Field, ListOf, MappingOf, Record, join
from .schema import INVALID, Choice, Number, Problems, Schema, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "[A-Za-z][A-Za-z0-9_-]*"
URL = r"[A-Za-z][A-Za-z0-9+.-]*://\S+"
RESERVED = r"baseline|off|.*-t[0-9]+"
"""Words of ``--metaharness`` that are no backends, and what the items of several trials end in."""

MAX_SECONDS = 1_000_000
"""Twelve days: what every timer of the operating system can hold."""

SECONDS = Number(above=0, limit=MAX_SECONDS)
VARIABLE = Text(pattern="[A-Za-z_][A-Za-z0-9_]*", meaning="the name of a variable (letters, digits, '_')")


def is_reserved(name: str) -> bool:
    """Whether *name* means something else than a backend."""
    return re.fullmatch(RESERVED, name) is not None


def _parse_name(name: str) -> str:
    if is_reserved(name):
        raise ValueError("not be 'baseline', 'off' or end in -t and a number")
    return name


BACKEND_NAME = Text(
    pattern=NAME,
    meaning="a name of letters, digits, '_' and '-' that begins with a letter",
    parse=_parse_name,
)


@dataclass(frozen=True, kw_only=True)
class Variables(Schema):
    """Names of variables to pass through (a list, or a mapping with nothing as value), or names with their values."""

    @property
    def expects(self) -> str:
        return "a list of names, or a mapping from names to text"

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        if isinstance(node, Pairs):
            return MappingOf(name=VARIABLE, value=_Value()).read(node, key, problems)
        if isinstance(node, Scalar):
            return self.refuse(node, key, problems)
        names = ListOf(item=VARIABLE).read(node, key, problems)
        return INVALID if names is INVALID else dict.fromkeys(names)

    def json_schema(self) -> dict[str, Any]:
        mapping = MappingOf(name=VARIABLE, value=_Value())
        return {"anyOf": [ListOf(item=VARIABLE).json_schema(), mapping.json_schema()]}


class _Value(Schema):
    """The text of a variable, or nothing to pass the variable through. Never shown: it may be a credential."""

    @property
    def expects(self) -> str:
        return "text (quoted), or nothing to pass the variable through"

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        if isinstance(node, Scalar) and node.type in {"text", "nothing"}:
            return node.value
        kind = node.type if isinstance(node, Scalar) else "list or mapping"
        problems.add(node.line, key, f"must be {self.expects}, got a {kind}")
        return INVALID

    def json_schema(self) -> dict[str, Any]:
        return {"type": ["string", "null"]}


def _common_fields(providers: Mapping[str, Record]) -> Mapping[str, Field]:
    return _make_common_fields(tuple(sorted(providers)))


@cache  # asked for twice by every table of every target
def _make_common_fields(built_in: tuple[str, ...]) -> Mapping[str, Field]:
    known = f" (built in: {', '.join(built_in)})" if built_in else ""
    return {
        "provider": Field(
            Text(pattern=NAME, meaning=f"the name of a provider{known}"),
            f"What answers for this backend{known}; a table named like a built-in provider needs none",
        ),
        "model": Field(Text(), "Model as the provider names it (default: the provider's own default)"),
        "executable": Field(Text(), "Program to start instead of the one found on PATH"),
        "base_url": Field(
            Text(pattern=URL, meaning="a URL such as http://127.0.0.1:8080/v1", secret=True),
            "Address of the model server, used as written: a gateway, a proxy, a local server",
        ),
        "api_key": Field(
            Text(
                pattern="[A-Za-z_][A-Za-z0-9_]*",
                meaning="the name of the variable that holds the key, never the key itself",
                secret=True,
            ),
            "Name of the environment variable that holds the key",
        ),
        "api": Field(Choice(words=("chat", "responses", "anthropic")), "API to use, for agents that speak several"),
        "args": Field(ListOf(item=Text(least="nothing")), "Extra arguments of the command line"),
        "env": Field(Variables(), "Environment variables: a list of names to pass through, or names with values"),
        "timeout": Field(SECONDS, "Seconds per proposal (default: the target's)"),
        "parallel": Field(
            Number(above=0, whole=True, limit=1000), "How many of its proposals may run at once, over all workers (any)"
        ),
    }


@dataclass(frozen=True, kw_only=True)
class ProviderKeys(Record):
    """The keys of a provider's own, and those of all that it *lacks*, each with the reason."""

    lacks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Lacking(Schema):
    """A key that means nothing to a provider: better refused than ignored."""

    reason: str

    @property
    def expects(self) -> str:
        return "left out"

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        problems.add(node.line, key, f"must be left out: {self.reason}")
        return INVALID

    def json_schema(self) -> dict[str, Any]:
        return {"not": {}}


@dataclass(frozen=True, kw_only=True)
class BackendTable(Schema):
    """One backend called *name*; closed where its provider is built in, else open to the provider's own keys."""

    name: str
    providers: Mapping[str, Record]

    @property
    def expects(self) -> str:
        return "a mapping"

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        provider = self._find_provider(node)
        values = self._record(provider).read(node, key, problems)
        if values is INVALID:
            return INVALID
        if provider is None:
            if isinstance(node, Pairs) and not any(_is_provider(name) for name, _ in node.nodes):
                built_in = ", ".join(sorted(self.providers))
                reason = f"is required and missing; only tables named like a built-in provider ({built_in}) need none"
                problems.add(node.line, join(key, "provider"), reason)
            return INVALID
        common = {name: values.pop(name) for name in _common_fields(self.providers) if name in values}
        return Backend(**common | {"name": self.name, "provider": provider, "options": values})

    def _find_provider(self, node: Node) -> str | None:
        """Give the provider that is named, or that the table's own name stands for, as far as can be seen."""
        for name, value in node.nodes if isinstance(node, Pairs) else ():
            if _is_provider(name):
                return value.value if isinstance(value, Scalar) and value.type == "text" else None
        return self.name if self.name in self.providers else None

    def _record(self, provider: str | None) -> Record:
        common = _common_fields(self.providers)
        own = self.providers.get(provider) if provider is not None else None
        if own is None:
            return Record(fields=common, extra=Anything())
        lacks = own.lacks if isinstance(own, ProviderKeys) else {}
        lacking = {name: Field(_Lacking(reason=reason), common[name].doc) for name, reason in lacks.items()}
        return Record(fields={**common, **lacking, **own.fields}, rules=own.rules, extra=own.extra)

    def json_schema(self) -> dict[str, Any]:
        """Give the schema of a table that names its provider, or may do without when *name* is one."""
        schema: dict[str, Any] = {"$ref": "#/$defs/backend"}
        if self.name in self.providers:
            schema = {
                "if": {"required": ["provider"]},
                "then": schema,
                "else": {"$ref": f"#/$defs/backend-{self.name}"},
            }
        return schema

    def definitions(self) -> dict[str, Any]:
        """Give the ``$defs`` that ``json_schema`` refers to: one per built-in provider, one for any."""
        own = {f"backend-{name}": self._record(name).json_schema() for name in sorted(self.providers)}
        cases = [
            {
                "if": {"properties": {"provider": {"const": name}}, "required": ["provider"]},
                "then": {"$ref": f"#/$defs/backend-{name}"},
            }
            for name in sorted(self.providers)
        ]
        table = self._record(None).json_schema() | {"required": ["provider"]}
        return {"backend": table | {"allOf": cases} if cases else table} | own


@dataclass(frozen=True, kw_only=True)
class BackendTables(MappingOf):
    """Backends by name."""

    providers: Mapping[str, Record]

    def value_of(self, name: str) -> Schema:
        return BackendTable(name=name, providers=self.providers)

    def json_schema(self) -> dict[str, Any]:
        named = {name: self.value_of(name).json_schema() for name in sorted(self.providers)}
        names = self.name.json_schema() | {"not": {"pattern": f"^(?:{RESERVED})$"}}
        return {
            "type": "object",
            "propertyNames": names,
            "properties": named,
            "additionalProperties": self.value_of("").json_schema(),
        }


def backend_tables(providers: Mapping[str, Record]) -> BackendTables:
    """Give the schema of a mapping of backends, where *providers* are the built-in ones with their own keys."""
    return BackendTables(name=BACKEND_NAME, value=Anything(), providers=providers)


def read_backends(
    table: object, *, providers: Mapping[str, Record], shown_as: str, key: str = "tool.metaharness.backends"
) -> dict[str, Backend]:
    """Give the backends in *table*, the plain data of a ``pyproject.toml``.

    *shown_as* is the file that the problems name, *key* the dotted name of the table in it.

    :raises TargetError: with all problems.
    """
    problems = Problems(shown_as)
    backends = backend_tables(providers).read(plain_tree(table), key, problems)
    problems.check()
    return dict(backends)


def _is_provider(name: Node) -> bool:
    return isinstance(name, Scalar) and name.type == "text" and name.value == "provider"
