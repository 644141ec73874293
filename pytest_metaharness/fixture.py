"""Python targets: the trials of a test that takes the fixture ``metaharness``, and what the fixture gives."""

from __future__ import annotations

from typing import Any

import pytest

from .core.errors import MetaharnessError
from .core.model import Run, Target
from .core.processes.sandbox import choose_sandbox
from .core.targets.complete import Metaharness, complete_target
from .options import read_sandbox_mode
from .plugin import get_options
from .registry import get_schemas
from .trials import ItemTrial, Planned, expect_trials, list_trials, trial_key

FIXTURE = "metaharness"


def parametrize_trials(metafunc: pytest.Metafunc) -> None:
    """Give the test its trials; with ``--metaharness=off`` one that is skipped."""
    if not _is_ours(metafunc):
        return
    marks = [pytest.mark.metaharness]
    planned = tuple(list_trials(get_options(metafunc.config)))
    if planned:
        expect_trials(metafunc.config)
    else:
        planned = (Planned("off", "off", 1),)
        marks.append(pytest.mark.skip(reason="--metaharness=off runs no target"))
    params = [pytest.param(trial, id=trial.name, marks=marks) for trial in planned]
    metafunc.parametrize(FIXTURE, params, indirect=True)


def _is_ours(metafunc: pytest.Metafunc) -> bool:
    """Tell whether the test gets our fixture, maybe through another of this name, rather than one of the user's own."""
    definitions = getattr(metafunc, "_arg2fixturedefs", {}).get(FIXTURE, ())  # pytest has no public way to ask
    for definition in reversed(definitions):
        if definition.func.__module__ == f"{__package__}.plugin":
            return True
        if FIXTURE not in definition.argnames:
            return False
    return False


def make_fixture(request: pytest.FixtureRequest) -> Metaharness:
    """Give the value of the fixture for one test.

    :raises SandboxError: the isolation that was asked for cannot be used.
    """
    planned = getattr(request, "param", None)
    item: Any = request.node
    if not isinstance(planned, Planned) or not isinstance(item, pytest.Function):
        message = f"take the fixture '{FIXTURE}' as an argument of the test function, or of a fixture that it takes"
        pytest.fail(message, pytrace=False)
    choose_sandbox(read_sandbox_mode(get_options(item.config)))  # its absence is an error before the test begins
    if trial_key in item.stash:  # of an earlier attempt at the same test
        del item.stash[trial_key]
    return _Search(item, planned)


class _Search:
    """Runs one trial of a test, with the target that the test gives."""

    def __init__(self, item: pytest.Function, planned: Planned) -> None:
        self._item, self._planned = item, planned
        self._is_called = False

    def __call__(self, target: Target) -> Run:
        """Run the trial; see :class:`Metaharness`."""
        if self._is_called:
            message = (
                f"{FIXTURE} was called a second time: a test is one trial of one target; "
                "parametrize it, or write another test"
            )
            raise MetaharnessError(message)
        self._is_called = True
        item = self._item
        place = item.parent.nodeid if item.parent else ""  # the item's own id may end in its group of pytest-xdist
        completed = complete_target(
            target,
            name=_name_target(item, self._planned),
            file=item.path,
            providers=get_schemas(),
            shown_as=f"{place}::{item.originalname}",
        )
        trial = item.stash[trial_key] = ItemTrial(item, completed, self._planned)
        trial.prepare()
        return trial.run()


def _name_target(item: pytest.Function, planned: Planned) -> str:
    """Name the target like its test, with the id of the test's own parameters."""
    own_id = item.callspec.id.removesuffix(planned.name).removesuffix("-")
    name = item.originalname.removeprefix("test_") or item.originalname
    return f"{name}[{own_id}]" if own_id else name
