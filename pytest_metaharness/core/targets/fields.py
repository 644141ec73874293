"""The schema of target files: the one source of what is read, of every error, and of the JSON Schema for editors."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..model import GitBaseline
from .backend_tables import SECONDS, VARIABLE, BackendTable, backend_tables
from .nodes import Node, Pairs, Scalar, cut
from .records import Anything, AtLeastOne, ExactlyOne, Field, ListOf, MappingOf, OnlyWith, Record
from .schema import INVALID, Choice, Flag, Number, Problems, Schema, Text, advise_quotes

if TYPE_CHECKING:
    from collections.abc import Mapping

_RELATIVE = r"(?!/)(?!(?:[^/]*/)*\.\.(?:/|$))(?:[^/]*/)*(?!\.?(?:/|$))[^/]+/*"


def _parse_relative(text: str) -> str:
    if text.startswith("/"):
        raise ValueError("be relative")
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise ValueError("not contain '..'")
    if not parts:
        raise ValueError("name something below this folder")
    return "/".join(parts)


def _parse_file(text: str) -> str:
    if text.endswith("/"):
        raise ValueError("name a file, not a folder")
    return _parse_relative(text)


def _parse_pattern(text: str) -> str:
    return _parse_relative(text) + ("/" if text.endswith("/") else "")


def _parse_git_path(text: str) -> str:
    return "." if text.strip("./") == "" and ".." not in text and not text.startswith("/") else _parse_relative(text)


def _parse_regex(text: str) -> str:
    try:
        with warnings.catch_warnings(action="ignore"):
            re.compile(text, re.MULTILINE)
    except RecursionError:
        raise ValueError("be a regular expression that is nested less deeply") from None
    except (re.error, OverflowError) as error:
        reason = f"be a regular expression ({cut(str(error))})"
        raise ValueError(reason) from None
    return text


FOLDER = Text(parse=_parse_relative, outline=_RELATIVE)
FILE = Text(parse=_parse_file, outline=_RELATIVE.removesuffix("/*"))
PATTERN = Text(parse=_parse_pattern, outline=_RELATIVE)
WORDS = ListOf(item=Text(least="a character"), minimum=1)

CONTAINS = Record(
    fields={
        "path": Field(FILE, "File of the candidate, a path relative to the workspace", required=True),
        "all": Field(WORDS, "Each of these texts stands in the file"),
        "any": Field(WORDS, "At least one of these texts stands in the file"),
        "none": Field(WORDS, "None of these texts stands in the file"),
        "regex": Field(
            Text(least="a character", parse=_parse_regex),
            "This Python regular expression is found in the file; ^ and $ match at every line",
        ),
    },
    rules=(AtLeastOne(("all", "any", "none", "regex")),),
)

CHECK = Record(
    fields={
        "contains": Field(CONTAINS, "Conditions on the text of one file: 1 if all given ones hold, else 0"),
        "run": Field(Text(), "Bash command: 1 if it ends with the exit code that is wanted, else 0"),
        "exit_code": Field(Number(whole=True, minimum=0, maximum=255), "Exit code that `run` shall give (default 0)"),
        "score": Field(
            Text(),
            "Bash command whose last line of output is a number 0 to 1, "
            'or a JSON object {"score": x, "metrics": {...}, "feedback": "..."}',
        ),
        "pytest": Field(
            PATTERN, "File or folder of tests in the sealed folder: the share of its test functions that pass"
        ),
        "use": Field(Text(), "Name that a plugin's or conftest's hook pytest_metaharness_check answers to"),
        "with": Field(
            MappingOf(name=Text(least="nothing"), value=Anything()),
            "Arguments for the hook that `use` names",
            attribute="with_",
        ),
        "weight": Field(Number(above=0), "Weight in the objective, above 0 (default 1)"),
        "timeout": Field(SECONDS, "Seconds after which the check is ended with value 0 (default 60)"),
        "required": Field(Flag(), "Whether a candidate that misses this check is invalid (default false)"),
        "fresh": Field(Flag(), "Whether the check gets a checkout of its own (default false)"),
        "network": Field(Flag(), "Whether its programs may use the network (default false)"),
        "env": Field(ListOf(item=VARIABLE), "Names of environment variables to pass to its programs"),
        "feedback": Field(
            Choice(words=("full", "verdict", "none")),
            "What the backend learns (default full, but verdict for a check that uses sealed files)",
        ),
        "volatile": Field(Flag(), "Whether equal files may give another result, so that it is always measured anew"),
        "repeat": Field(
            Number(whole=True, minimum=1, limit=1000), "Measure so many times and take the mean (default 1)"
        ),
    },
    rules=(
        ExactlyOne(("contains", "run", "score", "pytest", "use")),
        OnlyWith("exit_code", "run"),
        OnlyWith("with", "use"),
    ),
)

CHECK_ID = Text(
    pattern="[A-Za-z0-9][A-Za-z0-9_.-]*",
    meaning="an id of letters, digits, '_', '.' and '-' that begins with a letter or a digit",
)

GATE = Record(
    fields={
        "baseline": Field(Number(minimum=0, maximum=1), "Least objective of the baseline, 0 to 1; in every mode"),
        "best": Field(Number(minimum=0, maximum=1), "Least objective of the best candidate, 0 to 1; after a search"),
        "gain": Field(Number(minimum=-1, maximum=1), "Least gain of the best candidate over the baseline, -1 to 1"),
        "checks": Field(ListOf(item=CHECK_ID), "Checks that have value 1 in the best candidate; after a search"),
    },
)

GIT_BASELINE = Record(
    fields={
        "git": Field(Text(pattern=r"[^-\s][^\s]*", meaning="a revision such as HEAD"), "Revision", required=True),
        "path": Field(
            Text(parse=_parse_git_path, outline=rf"\.|{_RELATIVE}"),
            "Folder of the repository to take (default: all of it)",
        ),
    }
)

LIMITS = Record(
    fields={
        "file_mb": Field(Number(above=0), "Most megabytes of one file (default 50)"),
        "total_mb": Field(Number(above=0), "Most megabytes of all files together (default 500)"),
        "files": Field(Number(whole=True, minimum=1), "Most files (default 20000)"),
    }
)


@dataclass(frozen=True, kw_only=True)
class FolderOrGit(Schema):
    """A folder beside the target file, or a revision of the enclosing repository."""

    folder: Text = FOLDER

    @property
    def expects(self) -> str:
        return "a folder beside this file, or {git: HEAD}"

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        if isinstance(node, Scalar) and node.type == "text":
            return self.folder.read(node, key, problems)
        if not isinstance(node, Pairs):
            return self.refuse(node, key, problems, advise_quotes(node))
        before = len(problems)
        values = GIT_BASELINE.read(node, key, problems)
        return INVALID if values is INVALID or len(problems) > before else GitBaseline(**values)

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [self.folder.json_schema(), GIT_BASELINE.json_schema()]}


_WITH_ARGUMENTS = "filterwarnings|parametrize|skipif|timeout|usefixtures"
"""Marks that mean nothing without arguments; by that of pytest-timeout the whole session would die."""

MARK = Text(
    pattern=rf"(?!(?:{_WITH_ARGUMENTS})$)[A-Za-z][A-Za-z0-9_]*",
    meaning="the name of a mark without arguments (letters, digits, '_')",
)


_BEFORE_BACKENDS = {
    "goal": Field(Text(), "What the backend is asked to achieve, in prose", required=True),
    "constraints": Field(ListOf(item=Text()), "Rules in prose that the backend is shown"),
    "baseline": Field(
        FolderOrGit(),
        "Folder beside this file with the workspace to improve (default: baseline), "
        "or {git: HEAD, path: .}: the tracked files of the enclosing repository",
    ),
    "editable": Field(
        ListOf(item=PATTERN, minimum=1),
        "What the backend may change: files, folders/, globs (default: everything)",
    ),
    "required": Field(ListOf(item=FILE), "Files that a candidate must have to be valid"),
    "sealed": Field(
        FOLDER,
        "Folder beside this file that is laid over the checkout for its checks; the backend never sees it",
    ),
    "transient": Field(ListOf(item=PATTERN), "What is never part of a candidate: files, folders/, globs"),
    "limits": Field(LIMITS, "What a candidate may have at most; beyond it is invalid"),
    "budget": Field(
        Number(whole=True, minimum=0, limit=1_000_000),
        "Proposals per trial (default 1); 0 measures the baseline only",
    ),
    "timeout": Field(SECONDS, "Seconds per proposal (default 600)"),
    "checks": Field(
        MappingOf(name=CHECK_ID, value=CHECK, minimum=1),
        "Weighted measurements of a candidate by id, run in this order",
        required=True,
    ),
    "gate": Field(GATE, "Thresholds that pass or fail the test item"),
}
_AFTER_BACKENDS = {
    "marks": Field(ListOf(item=MARK), "Pytest marks of the test items"),
    "sandbox_read": Field(
        ListOf(item=Text()),
        "Files and folders that are readable inside the jail; ~ is the home folder",
    ),
}


def target_schema(providers: Mapping[str, Record]) -> Record:
    """Give the schema of a target file, where *providers* are the built-in ones with their own keys."""
    backends = Field(backend_tables(providers), "Named configurations of backends for --metaharness")
    return Record(fields={**_BEFORE_BACKENDS, "backends": backends, **_AFTER_BACKENDS})


def target_json_schema(providers: Mapping[str, Record]) -> dict[str, Any]:
    """Give the JSON Schema (draft 2020-12) of target files, for editors."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "pytest-metaharness target"}
    definitions = BackendTable(name="", providers=providers).definitions()
    return head | target_schema(providers).json_schema() | {"$defs": definitions}
