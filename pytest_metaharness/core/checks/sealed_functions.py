"""The test functions that sealed files hold, counted in their syntax trees: what nothing that runs can change."""

from __future__ import annotations

import ast
import fnmatch
import posixpath
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

import msgspec

from ..store.snapshot import Snapshot
from ..store.store import Store

_UNITTEST = "TestCase"


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as a test: the values of pytest's settings of these names."""

    python_files: tuple[str, ...] = ("test_*.py", "*_test.py")
    python_classes: tuple[str, ...] = ("Test",)
    python_functions: tuple[str, ...] = ("test",)
    norecursedirs: tuple[str, ...] = ()


def find_functions(sealed: Snapshot, store: Store, *, path: str, rules: Rules) -> frozenset[str]:
    """Name the test functions of the file or folder *path* as pytest does: ``tests/test_a.py::TestB::test_c``.

    One with parameters counts once. A file that cannot be parsed counts as one function, named like it.
    """
    found: set[str] = set()
    for file in _find_files(sealed, path, rules):
        try:
            tree = ast.parse(store.read(sealed[file].blob))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            found.add(file)
        else:
            found.update(f"{file}::{name}" for name in _Module(tree, rules).names())
    return frozenset(found)


def _find_files(sealed: Snapshot, path: str, rules: Rules) -> Iterator[str]:
    root = posixpath.normpath(path)
    for file, entry in sealed.items():
        if entry.mode == "120000":
            continue
        if file == root:
            yield file
        elif root == "." or file.startswith(f"{root}/"):
            folders = [parent.as_posix() for parent in PurePosixPath(file).parents]
            inner = folders[: folders.index(root)]
            is_left_out = any(_matches_path(folder, rules.norecursedirs) for folder in inner)
            if file.endswith(".py") and _matches_path(file, rules.python_files) and not is_left_out:
                yield file


def _matches_path(path: str, patterns: Iterable[str]) -> bool:
    """Match as pytest does: the name, or where the pattern has a slash the end of the whole path."""
    return any(
        fnmatch.fnmatchcase(f"/{path}", f"*/{pattern.strip('/')}")
        if "/" in pattern
        else fnmatch.fnmatchcase(posixpath.basename(path), pattern)
        for pattern in patterns
    )


def _matches_name(name: str, patterns: Iterable[str]) -> bool:
    """Match as pytest does: a beginning, or a glob."""
    return any(name.startswith(pattern) or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


class _Module:
    """The test functions of one file."""

    def __init__(self, tree: ast.Module, rules: Rules) -> None:
        self._tree = tree
        self._rules = rules
        self._classes = {each.name: each for each in _walk(tree.body) if isinstance(each, ast.ClassDef)}

    def names(self) -> Iterator[str]:
        yield from self._names_in(self._tree.body, self._rules.python_functions)

    def _names_in(self, body: list[ast.stmt], functions: tuple[str, ...]) -> Iterator[str]:
        for statement in _walk(body):
            if isinstance(statement, ast.ClassDef):
                yield from (f"{statement.name}::{name}" for name in self._names_of(statement))
            elif (
                isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
                and _matches_name(statement.name, functions)
                and not _is_fixture(statement)
            ):
                yield statement.name

    def _names_of(self, of: ast.ClassDef) -> Iterator[str]:
        """Name the tests of a class, also those that it has from classes of the same file."""
        family = list(self._family(of, seen={of.name}))
        is_unittest = any(base.endswith(_UNITTEST) for each in family for base in _bases(each))
        if not (is_unittest or _matches_name(of.name, self._rules.python_classes)):
            return
        if any(_is_no_test(statement) for statement in _walk(of.body)):
            return
        functions = ("test",) if is_unittest else self._rules.python_functions
        for each in family:
            yield from self._names_in(each.body, functions)

    def _family(self, of: ast.ClassDef, seen: set[str]) -> Iterator[ast.ClassDef]:
        yield of
        for base in _bases(of):
            if base in self._classes and base not in seen:
                yield from self._family(self._classes[base], seen | {base})


def _walk(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Give the statements of *body* and of its blocks (``if``, ``try``, ``with``...), not of functions and classes."""
    for statement in body:
        yield statement
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for child in ast.iter_child_nodes(statement):
                if isinstance(child, ast.stmt):
                    yield from _walk([child])
                elif isinstance(child, ast.ExceptHandler | ast.match_case):
                    yield from _walk(child.body)


def _bases(of: ast.ClassDef) -> Iterator[str]:
    return (ast.unparse(base).rpartition(".")[2] for base in of.bases)


def _is_fixture(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    decorators = (each.func if isinstance(each, ast.Call) else each for each in function.decorator_list)
    return any(ast.unparse(each).rpartition(".")[2] == "fixture" for each in decorators)


def _is_no_test(statement: ast.stmt) -> bool:
    """Recognize ``__test__ = False``."""
    return isinstance(statement, ast.Assign) and ast.unparse(statement) == "__test__ = False"
