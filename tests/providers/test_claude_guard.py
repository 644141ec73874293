"""What claude's guard permits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.backends import claude_guard


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
