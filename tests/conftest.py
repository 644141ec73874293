"""What tests need of the machine. Where it is absent they are skipped with the reason, but never in CI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from sessions import LEAN

from pytest_metaharness.core.processes.sandbox import choose_sandbox


def lack(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"in CI this must not be absent: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def bwrap() -> None:
    """A jail that works on this machine."""
    sandbox = choose_sandbox("auto")
    if sandbox.mode != "bwrap":
        lack(sandbox.notice or "no bwrap")


@pytest.fixture(scope="session")
def codex() -> Path:
    """The real Codex CLI."""
    folder = os.environ.get("METAHARNESS_AGENTS")
    local = Path(folder, "node_modules", ".bin", "codex") if folder else None
    found = str(local) if local and local.exists() else shutil.which("codex")
    if found is None:
        lack("the Codex CLI is not installed (npm install -g @openai/codex, or set METAHARNESS_AGENTS)")
    assert found is not None
    return Path(found)


@pytest.fixture(params=["auto", "off"], ids=["jailed", "unjailed"])
def sandbox_mode(request: pytest.FixtureRequest) -> str:
    """Both isolations."""
    if request.param == "auto":
        request.getfixturevalue("bwrap")
    return str(request.param)


@pytest.fixture(autouse=True)
def _lean_sessions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that tests start do without the plugins that happen to be installed, unless asked with ``-p NAME``.

    Hypothesis alone takes a third of their time to start.
    """
    if "pytester" in request.fixturenames:
        request.getfixturevalue("pytester")  # which unsets the variable
        monkeypatch.setenv("PYTEST_ADDOPTS", LEAN)
