"""Pi started through a program that is not its own: what it would read in the workspace cannot be kept from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_metaharness.core.errors import BackendError

from .proposing import ask, errand_for


@pytest.fixture
def wrapper(tmp_path: Path) -> Path:
    program = tmp_path / "pi"
    program.write_text('#!/bin/sh\necho "Error: [$PI_PACKAGE_DIR]" >&2\n', encoding="utf-8")
    program.chmod(0o755)
    return program


def test_a_wrapper_is_started_where_there_is_nothing_to_read(folder: Path, wrapper: Path) -> None:
    proposal = ask(errand_for("pi", wrapper, folder, "off", model="m1", api="chat", base_url="http://127.0.0.1:9/v1"))
    assert proposal.reason == "pi ended with exit code 0 before its turn was over: Error: []"


def test_a_wrapper_is_refused_where_the_workspace_would_configure_pi(folder: Path, wrapper: Path) -> None:
    (folder / "workspace/.pi").mkdir()
    with pytest.raises(BackendError) as refused:
        ask(errand_for("pi", wrapper, folder, "off", model="m1", api="chat", base_url="http://127.0.0.1:9/v1"))
    assert str(refused.value) == (
        "backend 'pi': the workspace's .pi would configure pi; set executable to its dist/cli.js"
    )
