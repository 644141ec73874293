"""Target files: which files they are, what they may say, and how one becomes a ``Target``."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model import Check, Contains, Gate, Limits, Target
from .fields import FOLDER, target_schema
from .nodes import Node, Pairs, Scalar, cut
from .schema import INVALID, Problems, find_nearest
from .yamltree import SyntaxProblem, count_lines, read_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .records import Record

FILE_NAME = "metaharness.yaml"
MAX_BYTES = 256 * 1024
"""Size of a target file; the longest goal that anybody wrote has a few thousand characters."""

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO"}
_NAMED_FOLDER = re.compile(r"""^["']?(?:baseline|sealed)["']?[ \t]*:[ \t]*["']?([^\s#'"{]+)""", re.MULTILINE)


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


def find_line(file: Path, *path: str) -> int | None:
    """Find the line of a dotted key in *file*; that of the nearest one above it when it cannot be found."""
    try:
        root = read_tree(_read_text(file))
    except (OSError, SyntaxProblem):  # it is no longer the file that was read
        return None
    return None if root is None else _find_line(root, *path)


def guess_folders(file: Path) -> Iterator[Path]:
    """Give the folders below a broken target file that seem to be meant as its baseline and its sealed folder."""
    try:
        text = _read_bytes(file).decode("utf-8", "replace")
    except (OSError, SyntaxProblem):
        text = ""
    for folder in ("baseline", *_NAMED_FOLDER.findall(text)):
        assert FOLDER.parse is not None
        try:
            yield file.parent / FOLDER.parse(folder)
        except ValueError:  # it would take the tests around it away
            continue


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
        where = f" (a link to '{cut(os.fsdecode(file.readlink()))}')" if file.is_symlink() else ""
        problems.add(None, "", f"cannot be read: {error.strerror or error}{where}")
    else:
        if root is None or (isinstance(root, Scalar) and root.type == "nothing"):
            problems.add(1, "", "is empty; a target has at least a goal and checks")
        elif isinstance(root, Pairs):
            return root
        else:
            is_unspaced = isinstance(root, Scalar) and root.written is not None and ":" in root.written
            target_schema({}).refuse(root, "", problems, " (a space follows the ':' of a key)" if is_unspaced else "")
    problems.check()
    raise AssertionError("a file without a mapping has a problem")


def _read_text(file: Path) -> str:
    content = _read_bytes(file)
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = count_lines(content[: error.start].decode("latin-1"))
        raise SyntaxProblem(line, f"is not UTF-8 text (byte 0x{content[error.start]:02x})") from None


def _read_bytes(file: Path) -> bytes:
    # Without O_NONBLOCK a FIFO would wait for a writer that never comes.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(file, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise SyntaxProblem(None, f"must be a regular file, got {_KINDS.get(stat.S_IFMT(mode), 'a device')}")
        content = b""
        while part := os.read(descriptor, MAX_BYTES + 1 - len(content)):  # what grows meanwhile ends nevertheless
            content += part
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise SyntaxProblem(None, f"is larger than {MAX_BYTES // 1024} KiB")
    return content


def _check_folders(here: Path, root: Pairs, values: dict[str, Any], problems: Problems) -> None:
    given = {name.value for name, _ in root.nodes if isinstance(name, Scalar)}
    baseline = values.get("baseline", None if "baseline" in given else "baseline")
    if not isinstance(baseline, str):
        baseline = None  # from git: looked at when the trial begins
    sealed = values.get("sealed")
    for key, folder in (("baseline", baseline), ("sealed", sealed)):
        if folder is not None and not os.path.isdir(_join(here, folder)):  # noqa: PTH112 - False for what is no path
            place = "" if folder.startswith("/") else " beside this file"
            problems.add(_find_line(root, key), key, f"no folder '{cut(folder)}'{place}")
    if baseline is not None and sealed is not None and _overlap(here, baseline, sealed):
        text = f"must lie apart from the baseline '{cut(baseline)}', got '{cut(sealed)}'"
        problems.add(_find_line(root, "sealed"), "sealed", text)


def _check_names(here: Path, root: Pairs, values: dict[str, Any], problems: Problems) -> None:
    """Note what names something that is not there: sealed tests, and checks of the gate."""
    checks = values.get("checks", INVALID)
    if checks is INVALID:
        return

    def add(text: str, *path: str) -> None:
        line = None if problems.are_too_many else _find_line(root, *path)
        problems.add(line, ".".join(path), text)

    for check, given in checks.items():
        path, sealed = given.get("pytest"), values.get("sealed")
        if path is None or sealed is INVALID:
            continue
        if sealed is None:
            text = "takes its tests from the sealed folder, and this target has no key 'sealed'"
            add(text, "checks", check, "pytest")
        elif not os.path.exists(_join(here, sealed, path)):  # noqa: PTH110 - False for what is no path
            add(f"no '{cut(path)}' in the sealed folder '{cut(sealed)}'", "checks", check, "pytest")
    gate = values.get("gate", {})
    for name in () if gate is INVALID else gate.get("checks", ()):
        if name not in checks:
            near = None if problems.are_too_many else find_nearest(name, checks)
            meant = f"; did you mean '{near}'?" if near else ""
            known = "" if problems.are_too_many else cut(", ".join(checks))
            add(f"no check '{cut(name)}' (known: {known}{meant})", "gate", "checks")


def _find_line(node: Node, *path: str) -> int | None:
    """Find the line of a dotted key; that of the nearest one above it when it cannot be found."""
    for part in path:
        inner = next(
            (
                value
                for name, value in (node.nodes if isinstance(node, Pairs) else ())
                if isinstance(name, Scalar) and name.value == part
            ),
            None,
        )
        if inner is None:
            return node.line
        node = inner
    return node.line


def _overlap(here: Path, one: str, other: str) -> bool:
    """Whether one of two folders is, or lies in, the other, by their names or through links."""
    a, b = _join(here, one), _join(here, other)
    pairs = [(a, b)]
    if os.path.isdir(a) and os.path.isdir(b) and (_has_link(here, one) or _has_link(here, other)):  # noqa: PTH112
        pairs.append((os.path.realpath(a), os.path.realpath(b)))
    return any(f"{a}/".startswith(f"{b}/") or f"{b}/".startswith(f"{a}/") for a, b in pairs)


def _has_link(here: Path, folder: str) -> bool:
    """Whether *folder* may lie elsewhere than its name, as seen from *here*, says."""
    if folder.startswith("/"):
        return True
    path = str(here)
    for part in folder.split("/"):
        path += f"/{part}"
        if os.path.islink(path):  # noqa: PTH114
            return True
    return False


def _join(here: Path, *names: str) -> str:
    return os.path.join(here, *names)  # noqa: PTH118 - a Path of every name would be a quarter of what loading costs
