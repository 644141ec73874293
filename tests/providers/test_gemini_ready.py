"""Whether gemini can be tried at all is told before anything is started, and a key that means nothing is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.backends.gemini import AGENT, check_ready
from pytest_metaharness.core.errors import BackendError, TargetError
from pytest_metaharness.core.model import Backend, Target
from pytest_metaharness.core.targets.backend_tables import read_backends
from pytest_metaharness.registry import get_schemas

from .proposing import KEY

TARGET = Target(name="target", file=Path("metaharness.yaml"), goal="Improve.", checks=())


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has a program called gemini, and no credentials."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "gemini"
    program.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")}


def check(environ: dict[str, str], **keys: Any) -> None:
    check_ready(Backend(name="mine", provider="gemini", **keys), target=TARGET, environ=environ)


def refuse(environ: dict[str, str], **keys: Any) -> str:
    with pytest.raises(BackendError) as refused:
        check(environ, **keys)
    return str(refused.value)


def test_missing_program_is_told(installed: dict[str, str], tmp_path: Path) -> None:
    fix = f"install it with `{AGENT.install}`, or set executable"
    assert refuse({**installed, "PATH": str(tmp_path)}) == f"backend 'mine': gemini was not found; {fix}"
    assert refuse(installed, executable="/no/x") == f"backend 'mine': its executable '/no/x' was not found; {fix}"


def test_missing_credentials_are_told(installed: dict[str, str]) -> None:
    assert refuse(installed) == "backend 'mine': no credentials for gemini; set GEMINI_API_KEY or run `gemini`"
    named = refuse({**installed, "GEMINI_API_KEY": KEY}, api_key="MY_KEY")
    assert named == "backend 'mine': its api_key MY_KEY is not set; set it, or leave api_key out for GEMINI_API_KEY"


def test_credentials_are_found(installed: dict[str, str], home: Path, tmp_path: Path) -> None:
    check({**installed, "GEMINI_API_KEY": KEY})
    check({**installed, "MY_KEY": KEY}, api_key="MY_KEY")
    check(installed, env={"GEMINI_API_KEY": KEY})
    check(installed, base_url="http://127.0.0.1:1234")  # a local server may need none
    check(installed, env={"GOOGLE_GENAI_USE_VERTEXAI": "true", "GOOGLE_CLOUD_PROJECT": None})
    file = home / ".gemini" / "oauth_creds.json"
    file.parent.mkdir()
    file.write_text("{}", encoding="utf-8")
    check(installed)
    file.rename(tmp_path / "oauth_creds.json")
    assert "no credentials" in refuse(installed)
    (tmp_path / ".gemini").mkdir()
    (tmp_path / "oauth_creds.json").rename(tmp_path / ".gemini" / "oauth_creds.json")
    check({**installed, "GEMINI_CLI_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("provider", "key", "value", "reason"),
    [
        ("codex", "api", "chat", "codex speaks one protocol, OpenAI's Responses"),
        ("gemini", "api", "responses", "gemini speaks one protocol, Google's own"),
        ("fake", "base_url", "http://localhost", "fake plays a file and starts no agent"),
        ("fake", "args", ["-v"], "fake plays a file and starts no agent"),
    ],
)
def test_a_key_that_means_nothing_to_a_provider_is_refused(provider: str, key: str, value: Any, reason: str) -> None:
    with pytest.raises(TargetError) as refused:
        read_backends({"mine": {"provider": provider, key: value}}, providers=get_schemas(), shown_as="p.toml")
    assert refused.value.problems == (f"p.toml: tool.metaharness.backends.mine.{key}: must be left out: {reason}",)
