"""What keeps an agent from working is told before anything is spent, and all at once by ``--metaharness-probe``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from .model_server import ModelServer
from .players import DONE, MODEL, PLAYERS
from .projects import Project
from .proposing import KEY

pytestmark = pytest.mark.agents

NOBODY = "http://127.0.0.1:9/v1"
"""An address at which nothing listens."""

UNREADY: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "gemini": ({}, "no credentials for gemini; set GEMINI_API_KEY or run `gemini`"),
    "named": (
        {"provider": "gemini", "api_key": "MY_KEY"},
        "its api_key MY_KEY is not set; set it, or leave api_key out for GEMINI_API_KEY",
    ),
    "claude": ({}, "no credentials for claude; set ANTHROPIC_API_KEY or run `claude auth login`"),
    "pi": ({}, "pi would take any model; set model, such as anthropic/claude-sonnet-4-5"),
    "opencode": ({}, "opencode would take any model; set model, such as anthropic/claude-sonnet-4-5"),
    "model-less": (
        {"provider": "codex", "oss": "ollama", "model": "qwen3:8b", "base_url": "{server}/v1"},
        "Ollama at {address} has no model 'qwen3:8b'; get it with `ollama pull qwen3:8b`",
    ),
    "server-less": (
        {"provider": "codex", "oss": "ollama", "base_url": NOBODY},
        "Ollama does not answer at 127.0.0.1:9 (Connection refused); start it with `ollama serve`",
    ),
    "elsewhere": (
        {"provider": "claude", "base_url": NOBODY},
        "nothing answers at 127.0.0.1:9 (Connection refused); start the server, or correct base_url",
    ),
}
"""Backends that cannot work, and what is said of them."""


def configure(project: Project, server: ModelServer, request: pytest.FixtureRequest, tables: Mapping[str, Any]) -> None:
    """Write a target with a backend for each of *tables*."""
    backends = {}
    for name, table in tables.items():
        program = str(request.getfixturevalue(table.get("provider", name)))
        url = table.get("base_url", "").replace("{server}", server.url)
        backends[name] = {**table, "executable": program, **({"base_url": url} if url else {})}
    project.write_target("t", {"provider": "fake"}, ["a.md"], backends=backends)


@pytest.mark.parametrize("probe", [(), ("--metaharness-probe",)], ids=["session", "probe"])
def test_what_is_not_ready_is_told_and_nothing_is_spent(
    tmp_path: Path, request: pytest.FixtureRequest, probe: tuple[str, ...]
) -> None:
    project = Project(tmp_path)
    with ModelServer([DONE], models=[MODEL]) as server:
        configure(project, server, request, {name: table for name, (table, _) in UNREADY.items()})
        ran = project.run(f"--metaharness={','.join(UNREADY)}", "-pno:xdist", *probe)
        assert {(asked.method, asked.path) for asked in server.requests} <= {
            ("GET", "/api/version"),
            ("GET", "/api/tags"),
        }
    told = {
        f"backend '{name}': {problem.replace('{address}', server.url.removeprefix('http://'))}"
        for name, (_, problem) in UNREADY.items()
    }
    assert set(ran.problems) == told, ran.output
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED
    if not probe:
        assert f"{len(UNREADY)} errors" in ran.output
    assert not ran.folder.exists()


def test_what_is_ready_is_shown_and_nothing_is_spent(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    project = Project(tmp_path)
    with ModelServer([DONE], models=[MODEL]) as server:
        tables = {player.name.replace(" ", "-"): player.table for player in PLAYERS.values()}
        configure(project, server, request, tables)
        keys = {player.key: KEY for player in PLAYERS.values() if player.key}
        ran = project.run(f"--metaharness={','.join(tables)}", "-pno:xdist", "--metaharness-probe", env=keys)
        assert {asked.method for asked in server.requests} <= {"GET"}
        address = server.url.removeprefix("http://")
    assert ran.returncode == pytest.ExitCode.OK, ran.output
    rows = {line.split()[0]: line for line in ran.output.splitlines() if line.split()[:1] and line.split()[0] in tables}
    assert set(rows) == set(tables)
    for name, player in zip(tables, PLAYERS.values(), strict=True):
        backend, ready, *others = rows[name].split()
        assert (backend, ready) == (name, "yes")
        assert address in others
        assert any(part[0].isdigit() and part.count(".") == 2 for part in others)  # a version
        assert not player.key or player.key in others
    assert not ran.folder.exists()
