"""The walls of the package: imports go down only, one place starts programs, and unused it is not noticed."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sessions import write_files

import pytest_metaharness

NAME = "pytest_metaharness"
PACKAGE = Path(pytest_metaharness.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
PYTEST = {"pytest", "_pytest", "pluggy", "xdist", "pytest_timeout"}
STARTING = re.compile(r"os\.(system|popen|fork|forkpty|startfile|posix_spawnp?|spawn\w+|exec\w+)|psutil\.Popen")
STARTERS = {"subprocess", "multiprocessing", "pty", "concurrent.futures.process"}
MAY_START = {f"core/processes/{name}.py" for name in ("process", "processtree", "guardian", "watcher")}


def test_the_modules_are_found() -> None:
    assert {"__init__.py", "core/trial.py", "backends/fake.py"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module: str) -> None:
    layer, _, rest = module.rpartition("/")
    ours, pytest_too = {
        "core": (("core",), False),
        "backends": (("core", "backends"), rest == "__init__.py"),
    }.get(layer, ((".",), True))
    if module in {"reports.py", "__init__.py"}:
        ours, pytest_too = ("core",), False
    imported = set(read_imports(module))
    up = {name for name in imported if name.startswith(NAME) and not is_below(name.removeprefix(f"{NAME}."), ours)}
    assert up == set()
    if not pytest_too:
        assert {name for name in imported if name.split(".")[0] in PYTEST} == set()


def is_below(name: str, layers: tuple[str, ...]) -> bool:
    return "." in layers or name.split(".", maxsplit=1)[0] in layers


def test_the_entry_module_imports_pytest_and_nothing_of_ours() -> None:
    imported = set(read_imports("plugin.py", at_start_only=True))
    assert {name for name in imported if name.startswith(NAME)} == set()
    assert imported <= {"__future__", "collections.abc", "glob", "os", "pathlib", "pytest", "typing"}


@pytest.mark.parametrize("module", [module for module in MODULES if module not in MAY_START])
def test_one_place_starts_programs(module: str) -> None:
    assert STARTERS & set(read_imports(module, at_run_time_only=True)) == set()
    assert STARTING.findall((PACKAGE / module).read_text(encoding="utf-8")) == []


def read_imports(module: str, *, at_start_only: bool = False, at_run_time_only: bool = False) -> Iterator[str]:
    """Give what *module* imports, as absolute names; ``from a import b`` counts as ``a.b`` where that is a module."""
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    package = [NAME, *module.split("/")[:-1]]
    for node in walk(tree, into_functions=not at_start_only, into_types=not (at_start_only or at_run_time_only)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            inner = PACKAGE.joinpath(*source.split(".")[1:]) if source.startswith(NAME) else None
            for alias in node.names:
                is_module = inner is not None and (
                    (inner / f"{alias.name}.py").exists() or (inner / alias.name).is_dir()
                )
                yield f"{source}.{alias.name}" if is_module else source


def walk(node: ast.AST, *, into_functions: bool, into_types: bool) -> Iterator[ast.AST]:
    """Give the nodes below *node*, maybe without function bodies and without what is there for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not into_functions:
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING" and not into_types:
            continue
        yield child
        yield from walk(child, into_functions=into_functions, into_types=into_types)


WRITES_MODULES = """
import atexit, os, sys
from pathlib import Path

def write():
    Path(f"modules-{os.getpid()}").write_text("\\n".join(sorted(sys.modules)))
atexit.register(write)
"""


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["serial", "xdist"])
def test_unused_it_is_not_noticed(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    write_files(pytester.path, {"conftest.py": WRITES_MODULES, "test_one.py": "def test_one(): pass"})
    shown: list[list[str]] = []
    modules: list[set[str]] = []
    for args in (("-p", "no:metaharness"), ()):
        result = pytester.runpytest_subprocess(*args, "-p", "no:cacheprovider", *workers)
        result.assert_outcomes(passed=1)
        shown.append([re.sub(r"in \d.*s", "", line) for line in result.outlines if not line.startswith("plugins: ")])
        written = list(pytester.path.glob("modules-*"))
        modules.append({name for file in written for name in file.read_text().splitlines()})
        for file in written:
            file.unlink()
    assert modules[1] - modules[0] - sys.stdlib_module_names == {NAME, f"{NAME}.plugin"}
    assert shown[0] == shown[1]
    assert not (pytester.path / ".metaharness").exists()
