"""What tests need of the machine. Where it is absent they are skipped with the reason, but never in CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sessions import LEAN, lack

from pytest_metaharness.core.processes.process import Completed, host_environment, run
from pytest_metaharness.core.processes.sandbox import Jail, choose_sandbox


@pytest.fixture(scope="session")
def bwrap() -> None:
    """A jail that works on this machine."""
    sandbox = choose_sandbox("auto")
    if sandbox.mode != "bwrap":
        lack(sandbox.notice or "no bwrap")


def find_agent(name: str, package: str) -> Path:
    """Find the real program of an agent, in the folder METAHARNESS_AGENTS or on PATH."""
    folder = os.environ.get("METAHARNESS_AGENTS")
    local = Path(folder, "node_modules", ".bin", name) if folder else None
    found = str(local) if local and local.exists() else shutil.which(name)
    if found is None:
        lack(f"{name} is not installed (npm install -g {package}, or set METAHARNESS_AGENTS)")
    assert found is not None
    return Path(found)


@pytest.fixture(scope="session")
def codex() -> Path:
    """The real Codex CLI."""
    return find_agent("codex", "@openai/codex")


@pytest.fixture(scope="session")
def gemini() -> Path:
    """The real Gemini CLI."""
    return find_agent("gemini", "@google/gemini-cli")


@pytest.fixture(scope="session")
def opencode() -> Path:
    """The real OpenCode."""
    return find_agent("opencode", "opencode-ai")


@pytest.fixture(scope="session")
def pi() -> Path:
    """The real Pi."""
    return find_agent("pi", "@mariozechner/pi-coding-agent")


@pytest.fixture(scope="session")
def claude() -> Path:
    """The real Claude Code."""
    return find_agent("claude", "@anthropic-ai/claude-code")


@pytest.fixture(params=["auto", "off"], ids=["jailed", "unjailed"])
def sandbox_mode(request: pytest.FixtureRequest) -> str:
    """Both isolations."""
    if request.param == "auto":
        request.getfixturevalue("bwrap")
    return str(request.param)


@pytest.fixture(params=["guardian", "jail"])
def jail(request: pytest.FixtureRequest, tmp_path: Path) -> Jail | None:
    """What contains the programs of :func:`start`: their guardian alone, or a jail."""
    if request.param == "guardian":
        return None
    request.getfixturevalue("bwrap")
    return Jail(writable=(tmp_path,))


@pytest.fixture
def start(jail: Jail | None, tmp_path: Path) -> Callable[..., Completed]:
    """Run a program in a folder of its own, with either isolation."""

    def start(*argv: str, **options: Any) -> Completed:
        defaults = {"cwd": tmp_path, "env": host_environment(tmp_path, tmp_path), "timeout": 20, "jail": jail}
        return run(argv, **{**defaults, **options})

    return start


@pytest.fixture(autouse=True)
def _lean_sessions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that tests start do without the plugins that happen to be installed, unless asked with ``-p NAME``.

    Hypothesis alone takes a third of their time to start.
    """
    if "pytester" in request.fixturenames:
        request.getfixturevalue("pytester")  # which unsets the variable
        monkeypatch.setenv("PYTEST_ADDOPTS", LEAN)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what came of the matrix of agents and cases, if it was tested; with workers, here is where all is known."""
    from providers.matrix_table import write_table  # noqa: PLC0415 - only this needs it

    write_table(terminalreporter)
