"""Target files: which files they are, what they may say, and how one becomes a ``Target``."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model import Check, Contains, Gate, Limits, Target
from .fields import target_schema
from .schema import INVALID, Problems, find_nearest
from .yamltree import Node, Pairs, Scalar, SyntaxProblem, cut, read_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .records import Record

FILE_NAME = "metaharness.yaml"
MAX_BYTES = 1024 * 1024
"""Size of a target file; the longest goal that anybody wrote has a few thousand characters."""


def is_target_file(name: str) -> bool:
    """Whether a file called *name* is a target."""
    return name == FILE_NAME or name.endswith(f".{FILE_NAME}")


def target_name(file: Path) -> str:
    """Give the name of the target in *file*: its folder's, or the part of its own before ``.metaharness.yaml``."""
    name = file.name.removesuffix(FILE_NAME).removesuffix(".") or Path(os.path.abspath(file)).parent.name  # noqa: PTH100
    # Path.resolve would name what a link leads to; a name that is no text would break every report
    return os.fsencode(name).decode("utf-8", "replace") or "target"


def load_target(file: Path, *, providers: Mapping[str, Record], shown_as: str | None = None) -> Target:
    """Give the target in *file*; *shown_as* is the path that the problems name.

    :raises TargetError: with all problems of the file and of the folders it names.
    """
    problems = Problems(str(file) if shown_as is None else shown_as)
    root = _read_root(file, problems)
    return make_target(root, target_schema(providers), problems, name=target_name(file), file=file)


def make_target(root: Node, schema: Record, problems: Problems, *, name: str, file: Path) -> Target:
    """Give the target that the tree *root* describes; its paths are beside *file*.

    :raises TargetError: with all problems, those noted before too.
    """
    values = schema.read(root, "", problems)
    if isinstance(root, Pairs):
        _check_folders(file.parent, root, values, problems)
        _check_names(file.parent, root, values, problems)
    problems.check()
    values["checks"] = tuple(_make_check(name, check) for name, check in values["checks"].items())
    values["gate"] = Gate(**values.get("gate", {}))
    values["limits"] = Limits(**values.get("limits", {}))
    return Target(name=name, file=file, **values)


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
    if not isinstance(baseline, str):
        baseline = None  # from git: looked at when the trial begins
    sealed = values.get("sealed")
    for key, folder in (("baseline", baseline), ("sealed", sealed)):
        if folder is not None and not _is_folder(here / folder):
            place = "" if folder.startswith("/") else " beside this file"
            problems.add(lines.get(key, root.line), key, f"no folder '{cut(folder)}'{place}")
    if baseline is not None and sealed is not None and _overlap(here / baseline, here / sealed):
        text = f"must lie apart from the baseline '{cut(baseline)}', got '{cut(sealed)}'"
        problems.add(lines.get("sealed"), "sealed", text)


def _check_names(here: Path, root: Pairs, values: dict[str, Any], problems: Problems) -> None:
    """Note what names something that is not there: sealed tests, and checks of the gate."""
    checks = values.get("checks", INVALID)
    if checks is INVALID:
        return
    for check, given in checks.items():
        path, sealed = given.get("pytest"), values.get("sealed")
        if path is None or sealed is INVALID:
            continue
        key, line = f"checks.{check}.pytest", _find_line(root, "checks", check, "pytest")
        if sealed is None:
            problems.add(line, key, "takes its tests from the sealed folder, and this target has no key 'sealed'")
        elif not (here / sealed / path).exists():
            problems.add(line, key, f"no '{cut(path)}' in the sealed folder '{cut(sealed)}'")
    gate = values.get("gate", {})
    for name in () if gate is INVALID else gate.get("checks", ()):
        if name not in checks:
            near = find_nearest(name, checks)
            meant = f"; did you mean '{near}'?" if near else ""
            text = f"no check '{cut(name)}' (known: {cut(', '.join(checks))}{meant})"
            problems.add(_find_line(root, "gate", "checks"), "gate.checks", text)


def _find_line(node: Node, *path: str) -> int | None:
    """Find the line of a dotted key; that of the nearest one above it when it cannot be found."""
    for part in path:
        inner = (
            [value for name, value in node.nodes if isinstance(name, Scalar) and name.value == part]
            if isinstance(node, Pairs)
            else []
        )
        if not inner:
            return node.line
        node = inner[0]
    return node.line


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
