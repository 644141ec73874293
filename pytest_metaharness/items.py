"""YAML targets as pytest items: a file of trials, each one planned search."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .core.errors import TargetError
from .core.model import Target
from .core.targets.load import load_target
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
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        for folder in ("baseline", *re.findall(r"^(?:baseline|sealed): *([^\s#'\"{]+)", text, re.MULTILINE)):
            yield os.path.normpath(file.parent / folder)
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


class TargetFile(pytest.File):
    """Collects the trials of one target: every requested backend, every repetition."""

    def collect(self) -> Iterator[Trial]:
        """Read the target and give its trials.

        :raises TargetError: the file is not valid.
        """
        target = read_target(self.config, self.path)
        for mark in target.marks:
            try:
                getattr(pytest.mark, mark)
            except pytest.fail.Exception as error:  # --strict-markers
                shown = show_path_from(self.config.rootpath, self.path)
                raise TargetError((f"{shown}: marks: {error}",)) from error
        for planned in list_trials(get_options(self.config)):
            yield Trial.from_parent(self, name=planned.name, target=target, planned=planned)

    def repr_failure(  # type: ignore[override]  # as pytest.Collector has it
        self, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> Any:
        """Show a broken target file as its problems, without a traceback."""
        if isinstance(excinfo.value, TargetError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


class Trial(pytest.Item):
    """One planned search: target x backend x repetition."""

    def __init__(self, *, target: Target, planned: Planned, **node: Any) -> None:
        super().__init__(**node)
        self.target = target
        self.stash[trial_key] = ItemTrial(self, target, planned)
        self.add_marker(pytest.mark.metaharness)
        for mark in target.marks:
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
