"""What the tests of providers share: a place to work in, an empty home, a key."""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_metaharness.core.proposals import NETWORK_VARIABLES

from .proposing import KEY, find_processes

if TYPE_CHECKING:
    from collections.abc import Iterator

OF_AGENTS = re.compile(
    r"(CODEX|OPENAI|GEMINI|GOOGLE|CODE_ASSIST|OPENCODE|PI|ANTHROPIC|CLAUDE|OLLAMA|LMSTUDIO|XDG)_|IS_SANDBOX$|\w+_API_KEY$"
)
"""Variables of the developer's that would change what agents do."""

KEYS = ("CODEX_API_KEY", "GEMINI_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a proposal happens; nothing that was started there may be left."""
    workspace = tmp_path / "workspace"
    (workspace / "scripts").mkdir(parents=True)
    (workspace / "AGENTS.md").write_text("old\n", encoding="utf-8")
    yield tmp_path
    deadline = time.monotonic() + 5
    while left := find_processes(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder in which another user can work: pytest's own are closed."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="metaharness-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home: a new one, with nothing in it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in os.environ:
        if OF_AGENTS.match(name) or name in NETWORK_VARIABLES:
            monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """A key for every agent, where it looks for one."""
    for name in KEYS:
        monkeypatch.setenv(name, KEY)
    return KEY
