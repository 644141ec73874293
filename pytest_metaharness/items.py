"""YAML targets as pytest items: a file of trials, each one planned search."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from .core.errors import TargetError
from .core.model import Target
from .core.targets.load import find_line, guess_folders, load_target
from .plugin import get_options
from .registry import get_schemas
from .session import show_path_from
from .trials import ItemTrial, Planned, describe_error, expect_trials, list_trials, trial_key

targets_key = pytest.StashKey[dict[Path, Target | TargetError]]()


def read_target(config: pytest.Config, file: Path) -> Target:
    """Read a target file, once per session.

    :raises TargetError: it is not valid.
    """
    known = config.stash.setdefault(targets_key, {})
    if file not in known:
        try:
            known[file] = load_target(file, providers=get_schemas(), shown_as=show_path_from(config.rootpath, file))
        except TargetError as error:
            known[file] = error
    target = known[file]
    if isinstance(target, TargetError):
        raise target
    return target


def find_own_folders(config: pytest.Config, file: Path) -> Iterator[str]:
    """Name the folders of a target that hold no tests of the project: its baseline and its sealed files."""
    try:
        target = read_target(config, file)
    except TargetError:  # its folders are no more the project's tests for that: take them as they seem to be meant
        yield from map(str, guess_folders(file))
        return
    if target.baseline_folder:  # else its files come from git, and those around it are the project's own
        yield str(target.baseline_folder)
    if target.sealed_folder:
        yield str(target.sealed_folder)


def collect_target_file(file: Path, parent: pytest.Collector) -> TargetFile | None:
    """Make the collector of a target file, unless targets are off."""
    if not get_options(parent.config).names:
        return None
    expect_trials(parent.config)
    return TargetFile.from_parent(parent, path=file)


def expect_odd_file(config: pytest.Config, file: Path) -> None:
    """Let *file*, called like a target, be collected although it is none: pytest passes over all but regular files."""
    name = "metaharness-odd-files"
    if not config.pluginmanager.has_plugin(name):
        config.pluginmanager.register(_OddFiles(config), name)
    odd = config.pluginmanager.get_plugin(name)
    assert isinstance(odd, _OddFiles)
    odd.files.setdefault(file.parent, []).append(file)


class _OddFiles:
    """Collects links that lead nowhere, FIFOs, folders and the like as the broken targets that they are."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.files: dict[Path, list[Path]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Add those of a folder to what pytest has found in it."""
        report = yield
        if isinstance(collector, pytest.Directory) and report.result is not None:
            for file in self.files.get(collector.path, ()):
                ignored = collector.ihook.pytest_ignore_collect(collection_path=file, config=self._config)
                target_file = None if ignored else collect_target_file(file, collector)
                if target_file is not None:
                    report.result.append(target_file)
        return report


class TargetFile(pytest.File):
    """Collects the trials of one target: every requested backend, every repetition."""

    def collect(self) -> Iterator[Trial]:
        """Read the target and give its trials.

        :raises TargetError: the file is not valid.
        """
        target = read_target(self.config, self.path)
        marks = self._find_marks(target)
        for planned in list_trials(get_options(self.config)):
            yield Trial.from_parent(self, name=planned.name, target=target, planned=planned, marks=marks)

    def _find_marks(self, target: Target) -> tuple[pytest.MarkDecorator, ...]:
        """Give the marks of the items.

        :raises TargetError: one is not registered, where pytest is asked to be strict about that.
        """
        marks, problems = [], []
        for index, name in enumerate(target.marks):
            try:
                with warnings.catch_warnings(record=True) as caught:
                    mark = getattr(pytest.mark, name)
                for warning in caught:  # said of the file, not of this module
                    line = find_line(self.path, "marks") or 1
                    warnings.warn_explicit(warning.message, warning.category, str(self.path), line)
            except (pytest.fail.Exception, Warning) as error:  # --strict-markers, and where warnings are errors
                line = find_line(self.path, "marks") or 1
                shown = show_path_from(self.config.rootpath, self.path)
                problems.append(f"{shown}:{line}: marks[{index}]: {str(error).splitlines()[0]}")
            else:
                marks.append(mark)
        if problems:
            raise TargetError(tuple(problems))
        return tuple(marks)

    def repr_failure(  # type: ignore[override]  # as pytest.Collector has it
        self, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> Any:
        """Show a broken target file as its problems, without a traceback."""
        if isinstance(excinfo.value, TargetError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


class Trial(pytest.Item):
    """One planned search: target x backend x repetition."""

    def __init__(
        self, *, target: Target, planned: Planned, marks: tuple[pytest.MarkDecorator, ...], **node: Any
    ) -> None:
        super().__init__(**node)
        self.target = target
        self.stash[trial_key] = ItemTrial(self, target, planned)
        self.add_marker(pytest.mark.metaharness)
        for mark in marks:
            self.add_marker(mark)

    def setup(self) -> None:
        """Find the backend and see that it can be used.

        :raises MetaharnessError: it cannot; the item is an error.
        """
        self.stash[trial_key].prepare()

    def runtest(self) -> None:
        """Run the trial.

        :raises GateFailure: its verdict is a failure.
        """
        self.stash[trial_key].run()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show what the user has to know: no traceback for what is no defect of ours."""
        return describe_error(excinfo.value) or super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Locate the item for pytest's own reports."""
        return self.path, None, f"{self.target.name}::{self.name}"
