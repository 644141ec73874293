"""Target files: which files they are, what they may say, and how one becomes a ``Target``."""

from __future__ import annotations

import os
import re
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .backend_tables import SECONDS, BackendTable, backend_tables, read_backends
from .model import Check, Contains, Gate, Target
from .records import Anything, AtLeastOne, ExactlyOne, Field, ListOf, MappingOf, OnlyWith, Record
from .schema import Flag, Number, Problems, Text
from .yamltree import Node, Pairs, Scalar, SyntaxProblem, cut, read_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["is_target_file", "load_target", "read_backends", "target_json_schema", "target_name", "target_schema"]

FILE_NAME = "metaharness.yaml"
MAX_BYTES = 1024 * 1024
"""Size of a target file; the longest goal that anybody wrote has a few thousand characters."""

_RELATIVE = r"(?!/)(?!(?:[^/]*/)*\.\.(?:/|$))(?:[^/]*/)*(?!\.?(?:/|$))[^/]+/*"


def is_target_file(name: str) -> bool:
    """Whether a file called *name* is a target."""
    return name == FILE_NAME or name.endswith(f".{FILE_NAME}")


def target_name(file: Path) -> str:
    """Give the name of the target in *file*: its folder's, or the part of its own before ``.metaharness.yaml``."""
    name = file.name.removesuffix(FILE_NAME).removesuffix(".") or Path(os.path.abspath(file)).parent.name  # noqa: PTH100
    # Path.resolve would name what a link leads to; a name that is no text would break every report
    return os.fsencode(name).decode("utf-8", "replace") or "target"


# ---------------------------------------------------------------------------------------------------- its schema


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
        "use": Field(Text(), "Name that a plugin's or conftest's hook pytest_metaharness_check answers to"),
        "with": Field(
            MappingOf(name=Text(least="nothing"), value=Anything()),
            "Arguments for the hook that `use` names",
            attribute="with_",
        ),
        "weight": Field(Number(above=0), "Weight in the objective, above 0 (default 1)"),
        "timeout": Field(SECONDS, "Seconds after which the check is ended with value 0 (default 60)"),
        "required": Field(Flag(), "Whether a candidate that misses this check is invalid (default false)"),
    },
    rules=(
        ExactlyOne(("contains", "run", "score", "use")),
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
    },
)

MARK = Text(pattern="[A-Za-z][A-Za-z0-9_]*", meaning="the name of a mark (letters, digits, '_')")


def target_schema(providers: Mapping[str, Record]) -> Record:
    """Give the schema of a target file, where *providers* are the built-in ones with their own keys."""
    return Record(
        fields={
            "goal": Field(Text(), "What the backend is asked to achieve, in prose", required=True),
            "constraints": Field(ListOf(item=Text()), "Rules in prose that the backend is shown"),
            "baseline": Field(FOLDER, "Folder beside this file with the workspace to improve (default: baseline)"),
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
            "backends": Field(backend_tables(providers), "Named configurations of backends for --metaharness"),
            "marks": Field(ListOf(item=MARK), "Pytest marks of the test items"),
            "sandbox_read": Field(
                ListOf(item=Text()),
                "Files and folders that are readable inside the jail; ~ is the home folder",
            ),
        },
    )


def target_json_schema(providers: Mapping[str, Record]) -> dict[str, Any]:
    """Give the JSON Schema (draft 2020-12) of target files, for editors."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "pytest-metaharness target"}
    definitions = BackendTable(name="", providers=providers).definitions()
    return head | target_schema(providers).json_schema() | {"$defs": definitions}


# ------------------------------------------------------------------------------------------------------- reading


def load_target(file: Path, *, providers: Mapping[str, Record], shown_as: str | None = None) -> Target:
    """Give the target in *file*; *shown_as* is the path that the problems name.

    :raises TargetError: with all problems of the file and of the folders it names.
    """
    problems = Problems(str(file) if shown_as is None else shown_as)
    root = _read_root(file, problems)
    values = target_schema(providers).read(root, "", problems)
    if isinstance(root, Pairs):
        _check_folders(file.parent, root, values, problems)
    problems.check()
    values["checks"] = tuple(_make_check(name, check) for name, check in values["checks"].items())
    values["gate"] = Gate(**values.get("gate", {}))
    return Target(name=target_name(file), file=file, **values)


def _make_check(name: str, values: dict[str, Any]) -> Check:
    if "contains" in values:
        values["contains"] = Contains(**values["contains"])
    return Check(id=name, **values)


def _read_root(file: Path, problems: Problems) -> Node:
    """Give the mapping in *file*, or raise what keeps it from being read at all."""
    try:
        root = read_tree(_read_text(file))
    except SyntaxProblem as problem:
        problems.add(problem.line, "", problem.text)
    except OSError as error:
        problems.add(None, "", f"cannot be read: {error.strerror or error}")
    else:
        if root is None or (isinstance(root, Scalar) and root.type == "nothing"):
            problems.add(1, "", "is empty; a target has at least a goal and checks")
        elif isinstance(root, Pairs):
            return root
        else:
            target_schema({}).refuse(root, "", problems)
    problems.check()
    raise AssertionError("a file without a mapping has a problem")


def _read_text(file: Path) -> str:
    # Without O_NONBLOCK a FIFO would wait for a writer that never comes.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(file, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise SyntaxProblem(None, "is a folder" if stat.S_ISDIR(mode) else "is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            content = stream.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise SyntaxProblem(None, f"is larger than {MAX_BYTES // 1024} KiB")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SyntaxProblem(line, f"is not UTF-8 text (byte 0x{content[error.start]:02x})") from None


def _check_folders(here: Path, root: Pairs, values: dict[str, Any], problems: Problems) -> None:
    lines = {name.value: name.line for name, _ in reversed(root.nodes) if isinstance(name, Scalar)}
    baseline = values.get("baseline", None if "baseline" in lines else "baseline")
    sealed = values.get("sealed")
    for key, folder in (("baseline", baseline), ("sealed", sealed)):
        if folder is not None and not _is_folder(here / folder):
            problems.add(lines.get(key, root.line), key, f"no folder '{cut(folder)}' beside this file")
    if baseline is not None and sealed is not None and _overlap(here / baseline, here / sealed):
        text = f"must lie apart from the baseline '{cut(baseline)}', got '{cut(sealed)}'"
        problems.add(lines.get("sealed"), "sealed", text)


def _overlap(one: Path, other: Path) -> bool:
    """Whether one of two folders is, or lies in, the other, by their names or through links."""
    pairs = [(one, other)]
    if _is_folder(one) and _is_folder(other):
        pairs.append((one.resolve(), other.resolve()))
    return any(a.is_relative_to(b) or b.is_relative_to(a) for a, b in pairs)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:  # also a name that is too long, or a loop of links
        return False
