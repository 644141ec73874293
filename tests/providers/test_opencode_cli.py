"""The real OpenCode edits a workspace, driven by the provider against a scripted model server on 127.0.0.1."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.core.model import Proposal, Tokens

from .model_dialects import Step, Tool
from .model_server import ModelServer
from .opencode_steps import DONE, edit, make_errand, patch, read, shell, use, write
from .plain_user import PLAIN_USER, become_plain_user
from .proposing import KEY, SandboxMode, ask, find_processes, finish, start

pytestmark = pytest.mark.agents


@pytest.fixture(autouse=True)
def my_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)


def list_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


# --------------------------------------------------------------------------------------------------------------- edits


def test_opencode_edits_the_workspace(folder: Path, opencode: Path, sandbox_mode: SandboxMode) -> None:
    with ModelServer([use(read("AGENTS.md")), use(edit("AGENTS.md"), write("docs/notes.md")), DONE]) as server:
        proposal = ask(make_errand(folder, opencode, server, sandbox_mode))
        assert {request.headers["authorization"] for request in server.turns} == {f"Bearer {KEY}"}
        assert {request.body["model"] for request in server.turns} == {"lab/model:1"}
        assert "Read .metaharness/BRIEF.md and improve" in server.turns[0].text
        assert f"Workspace root folder: {folder / 'workspace'}\\n" in server.turns[0].text
        assert len(server.requests) == len(server.turns)
    assert proposal == Proposal(
        status="completed",
        summary="All done. Really.",
        tokens=Tokens(input=300, cached=60, output=30),
        tool_calls=3,
    )
    workspace = folder / "workspace"
    assert (workspace / "AGENTS.md").read_text(encoding="utf-8") == "new\n"
    assert (workspace / "docs/notes.md").read_text(encoding="utf-8") == "new\n"
    assert sorted(path.name for path in workspace.iterdir()) == ["AGENTS.md", "docs", "scripts"]
    installed = folder / "state/xdg/config/opencode/node_modules"
    assert list(installed.iterdir()) == []


def test_edits_land_in_the_workspace_whatever_is_around(
    open_folder: Path, opencode: Path, sandbox_mode: SandboxMode
) -> None:
    """In a repository, with a PWD that is another folder, for a user who cannot write to HOME."""
    subprocess.run(["git", "init", "-q", str(open_folder)], check=True)
    workspace = open_folder / "workspace"
    workspace.mkdir()
    (workspace / "AGENTS.md").write_text("old\n", encoding="utf-8")
    prefix, environ = become_plain_user(open_folder)
    environ = {**environ, "HOME": "/root", "PWD": str(open_folder / "home")}
    steps = [use(edit("AGENTS.md"), write(workspace / "notes.md"), write("../around.md")), DONE]
    with ModelServer(steps) as server:
        proposal = finish(start(make_errand(open_folder, opencode, server, sandbox_mode), prefix, env=environ))
        assert f"Workspace root folder: {workspace}\\n" in server.turns[0].text
    denial = "" if sandbox_mode == "auto" else "its edits were denied: write of ../around.md is not allowed"
    assert (proposal.status, proposal.reason) == ("completed", denial)
    assert list_files(workspace) == {"AGENTS.md", "notes.md"}
    assert (workspace / "AGENTS.md").read_text(encoding="utf-8") == "new\n"
    assert (workspace / "AGENTS.md").stat().st_uid == PLAIN_USER
    assert not (open_folder / "around.md").exists()
    assert not find_processes(open_folder)


SERVICES: dict[str, tuple[dict[str, Any], Tool, str, str]] = {
    "keyless": ({"api": "responses", "api_key": None}, edit("AGENTS.md"), "/v1/responses", ""),
    "known": (
        {"api": None, "model": "openai/gpt-5.5", "api_key": None},
        patch("*** Update File: AGENTS.md\n@@\n-old\n+new\n"),
        "/v1/responses",
        "OPENAI_API_KEY",
    ),
    "too-new": (
        {"api": None, "model": "anthropic/claude-99", "api_key": None},
        edit("AGENTS.md"),
        "/v1/messages",
        "ANTHROPIC_API_KEY",
    ),
}


@pytest.mark.parametrize("way", SERVICES)
def test_opencode_speaks_to_many_services(
    folder: Path, opencode: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, tool, path, variable = SERVICES[way]
    if variable:
        monkeypatch.setenv(variable, KEY)
    with ModelServer([use(tool), DONE]) as server:
        proposal = ask(make_errand(folder, opencode, server, "off", **keys))
        assert {request.path for request in server.turns} == {path}
        headers = server.turns[0].headers
        shown = headers.get("x-api-key") or headers["authorization"].removeprefix("Bearer ")
        assert shown == ("none" if way == "keyless" else KEY)
    assert (proposal.status, proposal.tool_calls) == ("completed", 1)
    assert (proposal.cost_usd is not None) is (way == "known")  # the prices of others are not
    assert (folder / "workspace" / "AGENTS.md").read_text(encoding="utf-8") == "new\n"


# ------------------------------------------------------------------------------------------- what may not happen


def test_the_workspace_does_not_configure_opencode(folder: Path, opencode: Path, sandbox_mode: SandboxMode) -> None:
    context_files = sandbox_mode == "auto"  # two of four are enough
    workspace, ran = folder / "workspace", folder / "ran"
    plugin = f"import fs from 'fs'; fs.writeFileSync('{ran}', ''); export const Plugin = async () => ({{}});"
    files = {
        "AGENTS.md": "MARK-AGENTS",
        "CLAUDE.md": "MARK-CLAUDE",
        "opencode.json": json.dumps({"instructions": ["CLAUDE.md"], "plugin": ["./plugin.js"], "model": "no/thing"}),
        "plugin.js": plugin,
        ".opencode/opencode.jsonc": json.dumps({"permission": {"bash": "allow"}}),
        ".opencode/plugins/one.js": plugin,
        ".opencode/plugin/two.ts": plugin,
        ".opencode/agent/build.md": "---\ndescription: x\n---\nMARK-AGENT-BUILD",
        ".opencode/skills/three/SKILL.md": "---\nname: three\ndescription: MARK-SKILL\n---\n",
        ".claude/skills/four/SKILL.md": "---\nname: four\ndescription: MARK-SKILL\n---\n",
        ".agents/skills/five/SKILL.md": "---\nname: five\ndescription: MARK-SKILL\n---\n",
    }
    for name, text in files.items():
        for path in (workspace / name, folder / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("MARK-AGENTS", "MARK-PARENT") if path.parent == folder else text)
    with ModelServer(
        [use(edit("opencode.json", "no/thing", "some/thing"), read(".opencode/plugin/two.ts")), DONE]
    ) as server:
        errand = make_errand(folder, opencode, server, sandbox_mode, options={"context_files": context_files})
        assert ask(errand).status == "completed"
        sent = server.turns[0].text
    assert ("MARK-AGENTS" in sent) is context_files
    assert [mark for mark in ("CLAUDE", "AGENT-BUILD", "SKILL", "PARENT") if f"MARK-{mark}" in sent] == []
    assert not ran.exists()
    assert list_files(workspace) == set(files)
    assert "some/thing" in (workspace / "opencode.json").read_text(encoding="utf-8")


def test_without_the_jail_opencode_is_kept_in_the_workspace(folder: Path, opencode: Path) -> None:
    workspace, outside = folder / "workspace", folder / "outside"
    outside.mkdir()
    (outside / "secret").write_text("SECRET\n", encoding="utf-8")
    for name, target in {"folder": outside, "file": outside / "secret", "new": outside / "new"}.items():
        (workspace / name).symlink_to(target)
    (workspace / "inside.md").symlink_to("AGENTS.md")
    (workspace / "inner").symlink_to("scripts")
    refused = [
        write(outside / "a"), write("../outside/b"), write("folder/c"), write("file"), write("new"),
        write("scripts/../../d"), edit("file", "SECRET"), write("inner/../folder/e"), write("inner/f"), read("file"),
        read("folder/secret"), read("/etc/passwd"), shell("echo > ../g"),
    ]  # fmt: skip
    with ModelServer([use(*refused, write("inside.md"), write("scripts/../ok")), DONE]) as server:
        proposal = ask(make_errand(folder, opencode, server, "off"))
        answers = [said["content"] for said in server.turns[1].body["messages"] if said["role"] == "tool"]
    assert (proposal.status, proposal.tool_calls) == ("completed", len(refused) + 2)
    assert "its edits were denied: write of " in proposal.reason
    assert ["Wrote file successfully" in str(answer) for answer in answers] == [False] * len(refused) + [True] * 2
    assert "SECRET" not in str(answers)
    assert list_files(outside) == {"secret"}
    assert (outside / "secret").read_text(encoding="utf-8") == "SECRET\n"
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == []
    assert list_files(workspace) == {"AGENTS.md", "file", "new", "inside.md", "ok"}


@pytest.mark.usefixtures("bwrap")
def test_in_the_jail_opencode_has_a_shell_that_cannot_write_outside(folder: Path, opencode: Path) -> None:
    spy = "env | grep API_KEY; ls -A; sed -i s/old/new/ AGENTS.md; echo new > /usr/outside.txt"
    with ModelServer([use(shell(spy)), use(shell("true")), use(shell("true")), use(shell("true")), DONE]) as server:
        proposal = ask(make_errand(folder, opencode, server, "auto"))
        assert f"OWN_SERVER_API_KEY={KEY}\\nAGENTS.md\\nscripts\\n" in server.turns[1].text
        assert len(server.turns) == 5  # the same thing over and over is not forbidden
    assert (proposal.status, proposal.tool_calls) == ("completed", 4)
    assert proposal.reason.startswith("its edits were denied: bash met '")
    assert "/usr/outside.txt: Read-only file system'" in proposal.reason
    assert (folder / "workspace" / "AGENTS.md").read_text(encoding="utf-8") == "new\n"
    logs = "".join(file.read_text(encoding="utf-8") for file in (folder / "logs").iterdir())
    assert "OWN_SERVER_API_KEY=***" in logs
    assert KEY not in logs
    assert KEY not in (folder / "state/opencode.json").read_text(encoding="utf-8")


@pytest.mark.usefixtures("bwrap")
def test_a_login_is_lent(folder: Path, opencode: Path, home: Path) -> None:
    login = home / ".local/share/opencode/auth.json"
    login.parent.mkdir(parents=True)
    login.write_text(json.dumps({"groq": {"type": "api", "key": KEY}}), encoding="utf-8")
    before = login.read_bytes()
    with ModelServer([DONE]) as server:
        keys: dict[str, Any] = {"api": None, "api_key": None, "model": "groq/llama-3.3-70b-versatile", "base_url": None}
        errand = make_errand(folder, opencode, server, "auto", env={"HTTPS_PROXY": server.url}, **keys)
        proposal = ask(errand)
        assert {request.path for request in server.requests} == {"api.groq.com:443"}  # without a key it asks nobody
    assert proposal.status == "unavailable"
    assert login.read_bytes() == before
    assert KEY not in "".join(file.read_text(encoding="utf-8") for file in (folder / "logs").iterdir())


# --------------------------------------------------------------------------------------------------------- failures


def test_wrong_argument_is_a_crash_that_leaves_the_workspace_as_it_was(folder: Path, opencode: Path) -> None:
    (folder / "workspace/opencode.json").write_text("{}", encoding="utf-8")
    with ModelServer([DONE]) as server:
        proposal = ask(make_errand(folder, opencode, server, "off", args=("--no-such-option",)))
    assert proposal.status == "crash"
    assert proposal.reason.endswith("ended with exit code 1 before its turn was over: it does not understand its args")
    assert list_files(folder / "workspace") == {"AGENTS.md", "opencode.json"}


@pytest.mark.usefixtures("bwrap")
def test_a_dead_service_is_noticed_in_seconds(folder: Path, opencode: Path) -> None:
    begun = time.monotonic()
    with ModelServer([use(edit("AGENTS.md")), Step(status=500, message="out of order")]) as server:
        proposal = ask(make_errand(folder, opencode, server, "auto"))
        assert len(server.turns) == 4
    assert time.monotonic() - begun < 50
    assert proposal.status == "unavailable"
    assert proposal.reason == "out of order (its service failed 3 times); try again later"
    assert proposal.tool_calls == 1


@pytest.mark.usefixtures("bwrap")
def test_answers_without_an_end_are_not_asked_for_again_and_again(folder: Path, opencode: Path) -> None:
    with ModelServer([use(edit("AGENTS.md")), Step(unended=True, text="I have")]) as server:
        proposal = ask(make_errand(folder, opencode, server, "auto"))
        assert len(server.turns) < 50  # opencode asked 1400 times in a minute
    said = "the stream ended before the answer was over (its service failed 3 times)"
    assert (proposal.status, proposal.reason) == ("unavailable", f"{said}; check base_url {server.url}/v1")


@pytest.mark.usefixtures("bwrap")
def test_a_tool_that_hangs(folder: Path, opencode: Path) -> None:
    with ModelServer([use(shell("sleep 1000")), DONE]) as server:
        proposal = ask(make_errand(folder, opencode, server, "auto", timeout=15))
    assert proposal.status == "timeout"
    assert proposal.reason.startswith("no answer within 15 s: its command `sleep 1000` had been running for ")
    assert proposal.tool_calls == 1
