"""Targets written in Python: the schema of target files with what only Python can say, and the same problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Protocol

import msgspec

from ..model import Backend, Check, Contains, Gate, GitBaseline, Limits, Run, Target
from .fields import CHECK, CHECK_ID, FOLDER, FolderOrGit, target_schema
from .load import make_target
from .nodes import Faulty, Node, Pairs, cut, plain_tree
from .records import ExactlyOne, Field, MappingOf, Record
from .schema import Problems, Schema, Text

_OF_THE_TEST = {
    "name": "is the test function's, and is not given in a Python target",
    "file": "is the test function's, and is not given in a Python target",
    "marks": "are the test function's: write @pytest.mark.NAME above it",
}
_UNSAID = Target(goal="", checks=())


class Metaharness(Protocol):
    """The fixture ``metaharness``: called once in a test, it runs the test's trial."""

    def __call__(self, target: Target) -> Run:
        """Search for a better harness, and give the record.

        :raises GateFailure: the verdict is a failure.
        :raises MetaharnessError: the target, the backend or this machine cannot be used; or it is the second call.
        """


class _Function(Node, frozen=True, kw_only=True):
    """A function, which no file can hold."""

    value: Any


@dataclass(frozen=True, kw_only=True)
class _FunctionSchema(Schema):
    @property
    def expects(self) -> str:
        return "a function that takes the checkout's path"

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        return node.value if isinstance(node, _Function) else self.refuse(node, key, problems)

    def json_schema(self) -> dict[str, Any]:
        return {"not": {}}


def _parse_folder(text: str) -> str:
    """Take an absolute path too: other fixtures make folders anywhere."""
    if Path(text).is_absolute():
        return text
    assert FOLDER.parse is not None
    return FOLDER.parse(text)


_FOLDER = Text(parse=_parse_folder)
_CHECK = Record(
    fields={**CHECK.fields, "call": Field(_FunctionSchema(), "Function of the checkout's path that gives the value")},
    rules=tuple(
        replace(rule, keys=(*rule.keys, "call")) if isinstance(rule, ExactlyOne) else rule for rule in CHECK.rules
    ),
)


def _python_schema(providers: Mapping[str, Record]) -> Record:
    fields = dict(target_schema(providers).fields)
    del fields["marks"]
    fields["baseline"] = Field(FolderOrGit(folder=_FOLDER), fields["baseline"].doc)
    fields["sealed"] = Field(_FOLDER, fields["sealed"].doc)
    fields["checks"] = Field(MappingOf(name=CHECK_ID, value=_CHECK, minimum=1), fields["checks"].doc, required=True)
    return Record(fields=fields)


def complete_target(target: object, *, name: str, file: Path, providers: Mapping[str, Record], shown_as: str) -> Target:
    """Check what a test gave as its target, and give it as a target file would have: with its *name* and *file*.

    :raises TargetError: with all problems; they begin with *shown_as*.
    """
    problems = Problems(shown_as)
    if not isinstance(target, Target):
        problems.add(None, "", f"metaharness must be called with a Target, got {_show(target)}")
        problems.check()
    assert isinstance(target, Target)
    for field, text in _OF_THE_TEST.items():
        if getattr(target, field) != getattr(_UNSAID, field):
            problems.add(None, field, text)
    tree = plain_tree(_spell_target(target, problems))
    return make_target(tree, _python_schema(providers), problems, name=name, file=file)


# ------------------------------------------------------------------------------------------- values as plain data


def _spell_target(target: Target, problems: Problems) -> dict[str, Any]:
    keys = {name: _spell(value) for name, value in _find_given(target).items() if name not in _OF_THE_TEST}
    keys["checks"] = _spell_checks(target.checks)
    backends = keys.get("backends")
    if isinstance(backends, Mapping):
        keys["backends"] = {
            name: _spell_backend(name, given, problems) if isinstance(given, Backend) else given
            for name, given in backends.items()
        }
    return keys


def _find_given(value: msgspec.Struct) -> dict[str, Any]:
    """Give the fields of *value* that are not as they are when nothing is said."""
    given = {}
    for field in msgspec.structs.fields(value):
        held = getattr(value, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if type(held) is not type(default) or held != default:
            given[field.name] = held
    return given


def _spell(value: object) -> object:
    if isinstance(value, Contains | Gate | GitBaseline | Limits):
        return _find_given(value)
    return str(value) if isinstance(value, PurePath) else value


def _spell_checks(checks: object) -> Node:
    if not isinstance(checks, list | tuple):
        return Faulty(line=None, fault=f"must be a list of Check, got {_show(checks)}")
    pairs = []
    for index, check in enumerate(checks):
        if not isinstance(check, Check):
            return Faulty(line=None, fault=f"must be a list of Check, got {_show(check)} at [{index}]")
        keys = {name.rstrip("_"): _spell(value) for name, value in _find_given(check).items() if name != "id"}
        if callable(check.call):
            keys["call"] = _Function(line=None, value=check.call)
        pairs.append((plain_tree(check.id), plain_tree(keys)))
    return Pairs(line=None, nodes=tuple(pairs))


def _spell_backend(name: object, backend: Backend, problems: Problems) -> dict[Any, Any]:
    keys = _find_given(backend)
    del keys["name"]
    options = keys.pop("options", {})
    shown = cut(str(name))
    if isinstance(name, str) and backend.name != name:
        problems.add(None, f"backends.{shown}.name", f"must be '{shown}', got {_show(backend.name)}")
    if not isinstance(options, Mapping):
        problems.add(None, f"backends.{shown}.options", f"must be a mapping, got {_show(options)}")
        return keys
    return {**options, **keys}


def _show(value: object) -> str:
    return cut(repr(value))
