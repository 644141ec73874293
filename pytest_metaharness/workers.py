"""How many workers ``-n auto`` starts for a search: its trials wait for agents, so there may be more than CPUs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from .plugin import get_options, is_target_file

PER_CPU = 8
"""Workers per CPU at most.

A trial whose agent thinks for minutes needs a CPU for seconds: to start its worker (0.4 s), the agent, and the checks.
This many can share one; beyond it they begin to wait for each other, and checks come near their timeouts.
"""

_TEST = re.compile(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(test\w*)[ \t]*\(([^)]*)\)", re.MULTILINE)
_FIXTURE = re.compile(r"\bmetaharness\b")


class _Found(NamedTuple):
    """Trials, and tests that are none."""

    trials: int
    others: int


def count_workers(config: pytest.Config, *, default: int) -> int:
    """Give a worker to each trial, up to :data:`PER_CPU`, and at least *default* where there are other tests too.

    Target files are counted by name and test functions by their text, before anything is collected: what ``-k``, ``-m``
    or parameters will make of them is not known. It stays at *default*, one worker per CPU, where nothing is proposed,
    and where the environment variable of pytest-xdist or somebody else's hook decides.

    :raises pytest.UsageError: an option of ours is malformed.
    """
    options = get_options(config)
    is_search = options.budget is None or options.budget.value != 0
    if not is_search or config.getoption("numprocesses") != "auto" or _is_decided(config):
        return default
    per_target = len(options.names) * int(options.trials.value or 1)
    found = [_count_argument(config, argument, per_target) for argument in config.args]
    trials = min(sum(each.trials for each in found), PER_CPU * default)
    return max(trials, default) if trials == 0 or any(each.others for each in found) else trials


def _is_decided(config: pytest.Config) -> bool:
    """Tell whether the user has set the number that ``-n auto`` stands for."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return True
    implementations = config.hook.pytest_xdist_auto_num_workers.get_hookimpls()
    modules = {getattr(each.plugin, "__name__", "") for each in implementations}
    return not modules <= {"xdist.plugin", f"{__package__}.plugin"}


def _count_argument(config: pytest.Config, argument: str, per_target: int) -> _Found:
    """Count what one argument of pytest, a path or a node id, leads to."""
    name, _, inner = argument.partition("::")
    path = config.invocation_params.dir / name
    if is_target_file(path.name):
        return _Found(1 if inner else per_target, 0)
    if path.is_file():
        function, is_one, _ = inner.rpartition("::")[2].partition("[")
        return _count_functions(path, 1 if is_one else per_target, function)
    found = [
        _Found(per_target, 0) if is_target_file(file.name) else _count_functions(file, per_target)
        for file in _find_files(config, path)
    ]
    return _Found(sum(each.trials for each in found), sum(each.others for each in found))


def _find_files(config: pytest.Config, top: Path) -> Iterator[Path]:
    """Give the targets and test files that pytest will find below *top*."""
    patterns = config.getini("python_files")

    def is_ignored(path: Path) -> bool:
        return bool(config.hook.pytest_ignore_collect(collection_path=path, config=config))

    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if not is_ignored(Path(folder, name))]
        for file in (Path(folder, name) for name in files):
            is_test = file.suffix == ".py" and any(file.match(pattern) for pattern in patterns)
            if (is_test or is_target_file(file.name)) and not is_ignored(file):
                yield file


def _count_functions(file: Path, per_target: int, name: str = "") -> _Found:
    """Count the test functions in *file*, or those called *name* where there are such."""
    functions = _TEST.findall(file.read_text(encoding="utf-8", errors="replace"))
    wanted = [taken for each, taken in functions if each == name] or [taken for _, taken in functions]
    targets = sum(bool(_FIXTURE.search(taken)) for taken in wanted)
    return _Found(targets * per_target, len(wanted) - targets)
