"""Agents of many services: which model is meant, where its key is looked for, what is refused before a start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.backends import get_provider
from pytest_metaharness.backends.models import list_model_keys, read_model
from pytest_metaharness.core.errors import BackendError
from pytest_metaharness.core.model import Backend, Target

from .proposing import KEY

TARGET = Target(name="target", file=Path("metaharness.yaml"), goal="Improve.", checks=())
OWN = {"api": "chat", "base_url": "http://127.0.0.1:1/v1"}
ANTHROPIC = "anthropic/claude-sonnet-4-5"


def make_backend(provider: str = "pi", **keys: Any) -> Backend:
    return Backend(name="mine", provider=provider, **keys)


@pytest.fixture(params=["opencode", "pi"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def installed(tmp_path: Path, provider: str) -> dict[str, str]:
    """The environment of a user who has the program, and no credentials."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / provider
    program.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")}


@pytest.mark.parametrize(
    ("keys", "service", "name"),
    [
        ({"model": ANTHROPIC}, "anthropic", "claude-sonnet-4-5"),
        ({"model": "openrouter/qwen/qwen3:free"}, "openrouter", "qwen/qwen3:free"),
        ({"model": "openai/gpt-5.5", "base_url": "http://127.0.0.1:1"}, "openai", "gpt-5.5"),
        ({"model": "Qwen/Qwen3-32B", **OWN}, "own-server", "Qwen/Qwen3-32B"),
        ({"model": "llama3.1:8b", **OWN}, "own-server", "llama3.1:8b"),
    ],
)
def test_the_model_is_read(keys: dict[str, str], service: str, name: str) -> None:
    assert read_model(make_backend(**keys)) == (service, name)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({}, "pi would take any model; set model, such as anthropic/claude-sonnet-4-5"),
        ({"model": ""}, "pi would take any model; set model, such as anthropic/claude-sonnet-4-5"),
        ({"base_url": "http://127.0.0.1:1"}, "pi would take any model; set model, such as anthropic/claude-sonnet-4-5"),
        ({"model": "m1", "api": "chat"}, "its api is that of a server of your own; set base_url too"),
        (
            {"model": "gpt-5.5"},
            "its model 'gpt-5.5' names no service; write service/model, such as anthropic/claude-sonnet-4-5, or set*",
        ),
        ({"model": "openai/"}, "its model 'openai/' names no service; write service/model, *"),
        ({"model": "/gpt"}, "its model '/gpt' names no service; write service/model, *"),
    ],
)
def test_no_usable_model_is_told(keys: dict[str, str], problem: str) -> None:
    with pytest.raises(BackendError) as refused:
        read_model(make_backend(**keys))
    told = str(refused.value)
    assert "\n" not in told
    start = f"backend 'mine': {problem.rstrip('*')}"
    assert told.startswith(start) if problem.endswith("*") else told == start


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        (ANTHROPIC, ("ANTHROPIC_API_KEY",)),
        ("openai/gpt-5.5", ("OPENAI_API_KEY",)),
        ("fireworks-ai/x", ("FIREWORKS_AI_API_KEY",)),
        ("wafer.ai/x", ("WAFER_AI_API_KEY",)),
        ("google/gemini", ("GEMINI_API_KEY", "GOOGLE_API_KEY")),
    ],
)
def test_a_key_is_in_the_variable_of_the_service(model: str, keys: tuple[str, ...]) -> None:
    special = {"google": ("GEMINI_API_KEY", "GOOGLE_API_KEY")}
    assert list_model_keys(make_backend(model=model), special) == keys


def refuse(provider: str, environ: dict[str, str], **keys: Any) -> str:
    with pytest.raises(BackendError) as refused:
        get_provider(provider).check_ready(make_backend(provider, **keys), target=TARGET, environ=environ)
    return str(refused.value)


def accept(provider: str, environ: dict[str, str], **keys: Any) -> None:
    get_provider(provider).check_ready(make_backend(provider, **keys), target=TARGET, environ=environ)


def test_missing_program_is_told(provider: str, installed: dict[str, str]) -> None:
    told = refuse(provider, {**installed, "PATH": "/nowhere"}, model=ANTHROPIC)
    package = {"opencode": "opencode-ai", "pi": "@mariozechner/pi-coding-agent"}[provider]
    assert told == (
        f"backend 'mine': {provider} was not found; install it with `npm install -g {package}`, or set executable"
    )


def test_missing_model_is_told_also_where_keys_are_set(provider: str, installed: dict[str, str]) -> None:
    told = refuse(provider, {**installed, "ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY})
    assert told == f"backend 'mine': {provider} would take any model; set model, such as {ANTHROPIC}"


def test_missing_credentials_are_told(provider: str, installed: dict[str, str]) -> None:
    command = {"opencode": "opencode auth login", "pi": "pi"}[provider]
    told = refuse(provider, {**installed, "OPENAI_API_KEY": KEY}, model=ANTHROPIC)
    assert told == f"backend 'mine': no credentials for {provider}; set ANTHROPIC_API_KEY or run `{command}`"
    assert "its api_key MY_KEY is not set" in refuse(provider, installed, model="m1", api_key="MY_KEY", **OWN)


def test_credentials_are_found(provider: str, installed: dict[str, str]) -> None:
    accept(provider, {**installed, "ANTHROPIC_API_KEY": KEY}, model=ANTHROPIC)
    accept(provider, {**installed, "GEMINI_API_KEY": KEY}, model="google/gemini-2.5-pro")
    accept(provider, {**installed, "MY_KEY": KEY}, model=ANTHROPIC, api_key="MY_KEY")
    accept(provider, installed, model=ANTHROPIC, base_url="http://127.0.0.1:1")  # a gateway may know who asks
    accept(provider, installed, model="m1", **OWN)
    accept(provider, installed, model="amazon-bedrock/x", env={"AWS_PROFILE": None})


def test_a_login_is_found(provider: str, installed: dict[str, str], home: Path, tmp_path: Path) -> None:
    folder = {"opencode": home / ".local/share/opencode", "pi": home / ".pi/agent"}[provider]
    folder.mkdir(parents=True)
    (folder / "auth.json").write_text("{}", encoding="utf-8")
    accept(provider, installed, model=ANTHROPIC)
    variable, moved = {
        "opencode": ("XDG_DATA_HOME", tmp_path / "data/opencode"),
        "pi": ("PI_CODING_AGENT_DIR", tmp_path / "data"),
    }[provider]
    moved.parent.mkdir(exist_ok=True)
    folder.rename(moved)
    assert "no credentials" in refuse(provider, installed, model=ANTHROPIC)
    accept(provider, {**installed, variable: str(tmp_path / "data")}, model=ANTHROPIC)
