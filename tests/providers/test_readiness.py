"""Whether an agent can be tried at all is told before anything is started, and a key that means nothing is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_metaharness.backends import claude, codex, gemini
from pytest_metaharness.backends.agents import Agent
from pytest_metaharness.core.errors import BackendError, TargetError
from pytest_metaharness.core.model import Backend, Target
from pytest_metaharness.core.targets.backend_tables import read_backends
from pytest_metaharness.registry import get_schemas

from .proposing import KEY

TARGET = Target(name="target", file=Path("metaharness.yaml"), goal="Improve.", checks=())


class Case(NamedTuple):
    """An agent with the variables that hold its key, and where it keeps its login.

    *file* is below the home, or *moved* below what the variable *folder* names.
    """

    agent: Agent
    keys: Sequence[str]
    login: str
    file: str
    folder: str
    moved: str


CASES: Mapping[str, Case] = {
    "codex": Case(codex.AGENT, ["CODEX_API_KEY"], "codex login", ".codex/auth.json", "CODEX_HOME", "auth.json"),
    "gemini": Case(
        gemini.AGENT,
        ["GEMINI_API_KEY"],
        "gemini",
        ".gemini/oauth_creds.json",
        "GEMINI_CLI_HOME",
        ".gemini/oauth_creds.json",
    ),
    "claude": Case(
        claude.AGENT,
        ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"],
        "claude auth login",
        ".claude/.credentials.json",
        "CLAUDE_CONFIG_DIR",
        ".credentials.json",
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    name: str = request.param
    return CASES[name]


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has the agents, and no credentials."""
    (tmp_path / "bin").mkdir()
    for name in CASES:
        program = tmp_path / "bin" / name
        program.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
        program.chmod(0o755)
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")}


def check(agent: Agent, environ: Mapping[str, str], **keys: Any) -> None:
    agent.check_ready(Backend(name="mine", provider=agent.name, **keys), target=TARGET, environ=environ)


def refuse(agent: Agent, environ: Mapping[str, str], **keys: Any) -> str:
    with pytest.raises(BackendError) as refused:
        check(agent, environ, **keys)
    return str(refused.value).removeprefix("backend 'mine': ")


def test_missing_program_is_told(case: Case, installed: dict[str, str], tmp_path: Path) -> None:
    fix = f"install it with `{case.agent.install}`, or set executable"
    assert refuse(case.agent, {**installed, "PATH": str(tmp_path)}) == f"{case.agent.name} was not found; {fix}"
    assert refuse(case.agent, installed, executable="/no/x") == f"its executable '/no/x' was not found; {fix}"


def test_missing_credentials_are_told(case: Case, installed: dict[str, str]) -> None:
    key = case.keys[0]
    told = f"no credentials for {case.agent.name}; set {key} or run `{case.login}`"
    assert refuse(case.agent, installed) == told
    assert refuse(case.agent, {**installed, key: ""}) == told
    named = refuse(case.agent, {**installed, key: KEY}, api_key="MY_KEY")
    assert named == f"its api_key MY_KEY is not set; set it, or leave api_key out for {key}"


def test_keys_are_found(case: Case, installed: dict[str, str]) -> None:
    for key in case.keys:
        check(case.agent, {**installed, key: KEY})
        check(case.agent, installed, env={key: KEY})
    check(case.agent, {**installed, "MY_KEY": KEY}, api_key="MY_KEY")


def test_a_local_server_may_need_no_credentials(case: Case, installed: dict[str, str]) -> None:
    check(case.agent, installed, base_url="http://127.0.0.1:1234")


def test_a_login_is_found(case: Case, installed: dict[str, str], home: Path, tmp_path: Path) -> None:
    file = home / case.file
    file.parent.mkdir()
    file.write_text("{}", encoding="utf-8")
    check(case.agent, installed)
    moved = tmp_path / "elsewhere" / case.moved
    moved.parent.mkdir(parents=True)
    file.rename(moved)
    assert "no credentials" in refuse(case.agent, installed)
    check(case.agent, {**installed, case.folder: str(tmp_path / "elsewhere")})


@pytest.mark.parametrize(
    ("agent", "env"),
    [
        (gemini.AGENT, {"GOOGLE_GENAI_USE_VERTEXAI": "true", "GOOGLE_CLOUD_PROJECT": None}),
        (claude.AGENT, {"CLAUDE_CODE_USE_BEDROCK": "1"}),
        (claude.AGENT, {"CLAUDE_CODE_USE_VERTEX": "1"}),
        (claude.AGENT, {"CLAUDE_CODE_USE_FOUNDRY": "1"}),
    ],
)
def test_a_cloud_has_credentials_of_its_own(
    agent: Agent, env: Mapping[str, str | None], installed: dict[str, str]
) -> None:
    check(agent, installed, env=env)


@pytest.mark.parametrize(
    ("provider", "key", "value", "reason"),
    [
        ("codex", "api", "chat", "codex speaks one protocol, OpenAI's Responses"),
        ("gemini", "api", "responses", "gemini speaks one protocol, Google's own"),
        ("claude", "api", "chat", "claude speaks one protocol, Anthropic's Messages"),
        ("fake", "base_url", "http://localhost", "fake plays a file and starts no agent"),
        ("fake", "args", ["-v"], "fake plays a file and starts no agent"),
    ],
)
def test_a_key_that_means_nothing_to_a_provider_is_refused(provider: str, key: str, value: Any, reason: str) -> None:
    with pytest.raises(TargetError) as refused:
        read_backends({"mine": {"provider": provider, key: value}}, providers=get_schemas(), shown_as="p.toml")
    assert refused.value.problems == (f"p.toml: tool.metaharness.backends.mine.{key}: must be left out: {reason}",)
