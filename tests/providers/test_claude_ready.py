"""Whether claude can be tried at all is told before anything is started; and what its guard permits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.backends import claude_guard
from pytest_metaharness.backends.claude import AGENT, check_ready
from pytest_metaharness.core.errors import BackendError, TargetError
from pytest_metaharness.core.model import Backend, Target
from pytest_metaharness.core.targets.backend_tables import read_backends
from pytest_metaharness.registry import get_schemas

from .proposing import KEY

TARGET = Target(name="target", file=Path("metaharness.yaml"), goal="Improve.", checks=())


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has a program called claude, and no credentials."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "claude"
    program.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")}


def check(environ: dict[str, str], **keys: Any) -> None:
    check_ready(Backend(name="mine", provider="claude", **keys), target=TARGET, environ=environ)


def refuse(environ: dict[str, str], **keys: Any) -> str:
    with pytest.raises(BackendError) as refused:
        check(environ, **keys)
    return str(refused.value)


def test_missing_program_is_told(installed: dict[str, str], tmp_path: Path) -> None:
    fix = f"install it with `{AGENT.install}`, or set executable"
    assert refuse({**installed, "PATH": str(tmp_path)}) == f"backend 'mine': claude was not found; {fix}"


def test_missing_credentials_are_told(installed: dict[str, str]) -> None:
    fix = "set ANTHROPIC_API_KEY or run `claude auth login`"
    assert refuse(installed) == f"backend 'mine': no credentials for claude; {fix}"


@pytest.mark.parametrize("key", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"])
def test_keys_are_found(installed: dict[str, str], key: str) -> None:
    check({**installed, key: KEY})
    check({**installed, "MY_KEY": KEY}, api_key="MY_KEY")
    check(installed, env={key: KEY})


@pytest.mark.parametrize("cloud", ["BEDROCK", "VERTEX", "FOUNDRY"])
def test_a_cloud_has_credentials_of_its_own(installed: dict[str, str], cloud: str) -> None:
    check(installed, env={f"CLAUDE_CODE_USE_{cloud}": "1"})


def test_a_login_is_found(installed: dict[str, str], home: Path, tmp_path: Path) -> None:
    check(installed, base_url="http://127.0.0.1:1234")  # a local server may need none
    file = home / ".claude" / ".credentials.json"
    file.parent.mkdir()
    file.write_text("{}", encoding="utf-8")
    check(installed)
    file.rename(tmp_path / ".credentials.json")
    assert "no credentials" in refuse(installed)
    check({**installed, "CLAUDE_CONFIG_DIR": str(tmp_path)})


def test_a_key_that_means_nothing_is_refused() -> None:
    with pytest.raises(TargetError) as refused:
        read_backends({"mine": {"provider": "claude", "api": "chat"}}, providers=get_schemas(), shown_as="p.toml")
    assert refused.value.problems[0].endswith("must be left out: claude speaks one protocol, Anthropic's Messages")


# ---------------------------------------------------------------------------------------------------------- the guard


def decide(tool: str, workspace: Path | None, **given: str) -> bool:
    decision = claude_guard.decide({"tool_name": tool, "input": given}, None if workspace is None else str(workspace))
    if decision["behavior"] == "allow":
        assert decision["updatedInput"] == given
        return True
    assert decision["message"]
    return False


@pytest.mark.parametrize(
    ("path", "is_allowed"),
    [
        ("{}/.claude/settings.json", True),
        ("{}/no/such/folder/x", True),
        ("{}/inner/x", True),
        ("{}/a/../x", True),
        ("{}/../x", False),
        ("{}-other/x", False),
        ("{}", False),
        ("{}/link/x", False),
        ("{}/link", False),
        ("{}/file", False),
        ("/etc/passwd", False),
        ("~/x", False),
        ("", False),
    ],
)
def test_the_guard_permits_edits_of_the_workspace(tmp_path: Path, path: str, is_allowed: bool) -> None:
    real = tmp_path / "real"
    (real / "sub").mkdir(parents=True)
    (real / "inner").symlink_to("sub")
    (real / "link").symlink_to(tmp_path)
    (real / "file").symlink_to("/etc/passwd")
    workspace = tmp_path / "workspace"
    workspace.symlink_to(real)
    for tool in ("Edit", "Write"):
        assert decide(tool, workspace, file_path=path.format(workspace)) is is_allowed
    assert not decide("Read", workspace, file_path=path.format(workspace))
    assert decide("Write", None, file_path=path.format(workspace))


def test_the_guard_permits_commands_in_the_jail_only(tmp_path: Path) -> None:
    assert decide("Bash", None, command="make")
    assert not decide("Bash", tmp_path, command="make")


def test_the_guard_is_a_program(tmp_path: Path) -> None:
    requests: list[dict[str, Any]] = [
        {"id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}},
        {"method": "notifications/initialized"},
        {"id": 1, "method": "tools/list"},
        {
            "id": 2,
            "method": "tools/call",
            "params": {"name": "permit", "arguments": {"tool_name": "Bash", "input": {}}},
        },
        {"id": 3, "method": "ping"},
    ]
    answers = subprocess.run(
        [sys.executable, "-I", "-S", claude_guard.__file__, str(tmp_path)],
        input="".join(json.dumps({"jsonrpc": "2.0", **request}) + "\n" for request in requests),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert answers.stderr == ""
    initialized, listed, called, pinged = (json.loads(line) for line in answers.stdout.splitlines())
    assert initialized["result"]["protocolVersion"] == "2025-11-25"
    assert [tool["name"] for tool in listed["result"]["tools"]] == ["permit"]
    assert json.loads(called["result"]["content"][0]["text"])["behavior"] == "deny"
    assert pinged == {"jsonrpc": "2.0", "id": 3, "result": {}}
