"""The real Pi edits a workspace, driven by the provider against a scripted model server on 127.0.0.1."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.core.model import Proposal, Tokens

from .model_dialects import Step
from .model_server import ModelServer
from .pi_steps import DONE, edit, make_errand, read, shell, use, write
from .plain_user import PLAIN_USER, become_plain_user
from .proposing import KEY, SandboxMode, ask, find_processes, finish, start

pytestmark = pytest.mark.agents


@pytest.fixture(autouse=True)
def my_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)


# --------------------------------------------------------------------------------------------------------------- edits


def test_pi_edits_the_workspace(folder: Path, pi: Path, sandbox_mode: SandboxMode) -> None:
    with ModelServer([use(read("AGENTS.md")), use(edit("AGENTS.md"), write("docs/notes.md")), DONE]) as server:
        proposal = ask(make_errand(folder, pi, server, sandbox_mode))
        assert {request.headers["authorization"] for request in server.turns} == {f"Bearer {KEY}"}
        assert {request.body["model"] for request in server.turns} == {"lab/model:1"}
        assert "Read .metaharness/BRIEF.md and improve" in server.turns[0].text
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
    assert (folder / "state" / "pi-agent").stat().st_mode & 0o777 == 0o700


def test_pi_works_as_plain_user(open_folder: Path, pi: Path, sandbox_mode: SandboxMode) -> None:
    (open_folder / "workspace").mkdir()
    (open_folder / "workspace" / "AGENTS.md").write_text("old\n", encoding="utf-8")
    prefix, environ = become_plain_user(open_folder)
    with ModelServer([use(edit("AGENTS.md")), DONE]) as server:
        proposal = finish(start(make_errand(open_folder, pi, server, sandbox_mode), prefix, env=environ))
    assert (proposal.status, proposal.reason) == ("completed", "")
    edited = open_folder / "workspace" / "AGENTS.md"
    assert (edited.read_text(encoding="utf-8"), edited.stat().st_uid) == ("new\n", PLAIN_USER)
    assert not find_processes(open_folder)


SERVICES: dict[str, tuple[dict[str, Any], str, str]] = {
    "responses": ({"api": "responses"}, "/v1/responses", ""),
    "anthropic": ({"api": "anthropic"}, "/v1/messages", ""),
    "known": ({"api": None, "model": "openai/gpt-5.5", "api_key": None}, "/v1/responses", "OPENAI_API_KEY"),
    "too-new": ({"api": None, "model": "anthropic/claude-99", "api_key": None}, "/v1/messages", "ANTHROPIC_API_KEY"),
    "keyless": ({"api": "chat", "api_key": None}, "/v1/chat/completions", ""),
}


@pytest.mark.parametrize("way", SERVICES)
def test_pi_speaks_to_many_services(folder: Path, pi: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, path, variable = SERVICES[way]
    if variable:
        monkeypatch.setenv(variable, KEY)
    with ModelServer([use(edit("AGENTS.md")), DONE]) as server:
        base_url = server.url if path == "/v1/messages" else f"{server.url}/v1"
        proposal = ask(make_errand(folder, pi, server, "off", base_url=base_url, **keys))
        assert {request.path for request in server.turns} == {path}
        headers = server.turns[0].headers
        shown = headers.get("x-api-key") or headers["authorization"].removeprefix("Bearer ")
        assert shown == ("none" if way == "keyless" else KEY)
    assert (proposal.status, proposal.tool_calls) == ("completed", 1)
    assert (proposal.cost_usd is not None) is bool(variable)  # the price of the user's own is not known
    assert (folder / "workspace" / "AGENTS.md").read_text(encoding="utf-8") == "new\n"


# ------------------------------------------------------------------------------------------- what may not happen


def test_the_workspace_does_not_configure_pi(folder: Path, pi: Path, sandbox_mode: SandboxMode) -> None:
    context_files = sandbox_mode == "auto"  # two of four are enough
    workspace, ran = folder / "workspace", folder / "workspace" / "ran"
    files = {
        "AGENTS.md": "MARK-AGENTS",
        "CLAUDE.md": "MARK-CLAUDE",
        ".pi/SYSTEM.md": "MARK-SYSTEM",
        ".pi/APPEND_SYSTEM.md": "MARK-SYSTEM",
        ".pi/settings.json": json.dumps({"shellCommandPrefix": f"touch {ran};", "packages": ["npm:x"], "theme": "x"}),
        ".pi/extensions/one.ts": f"import fs from 'fs'; fs.writeFileSync('{ran}', ''); export default () => {{}};",
        ".pi/commands/two.md": "MARK-PROMPT",  # pi renames this folder
        ".pi/skills/three/SKILL.md": "---\nname: three\ndescription: MARK-SKILL\n---\n",
        ".agents/skills/four/SKILL.md": "---\nname: four\ndescription: MARK-SKILL\n---\n",
    }
    for name, text in files.items():
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "AGENTS.md").write_text("MARK-PARENT", encoding="utf-8")
    tool = shell("true") if sandbox_mode == "auto" else read(".pi/commands/two.md")
    with ModelServer([use(tool), DONE]) as server:
        errand = make_errand(folder, pi, server, sandbox_mode, options={"context_files": context_files})
        assert ask(errand).status == "completed"
        sent = server.turns[0].text
    assert ("MARK-AGENTS" in sent) is context_files
    assert [mark for mark in ("CLAUDE", "SYSTEM", "PROMPT", "SKILL", "PARENT") if f"MARK-{mark}" in sent] == []
    assert not ran.exists()
    assert {str(path.relative_to(workspace)) for path in workspace.rglob("*") if path.is_file()} == set(files)


def test_without_the_jail_pi_is_kept_in_the_workspace(folder: Path, pi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, outside = folder / "workspace", folder / "outside"
    outside.mkdir()
    (outside / "secret").write_text("SECRET\n", encoding="utf-8")
    for name, target in {"folder": outside, "file": outside / "secret", "new": outside / "new"}.items():
        (workspace / name).symlink_to(target)
    (workspace / "inside.md").symlink_to("AGENTS.md")
    (workspace / "no\u00a0break").mkdir()
    (workspace / "no break").symlink_to(outside)
    refused = [
        write(outside / "a"), write("../outside/b"), write("folder/c"), write("file"), write("new"), write("@../d"),
        write("~/e"), write("scripts/../../f"), edit("file", "SECRET"), write("no\u00a0break/g"), read("file"),
        read("folder/secret"), read("/etc/passwd"), shell("echo > ../h"),
    ]  # fmt: skip
    with ModelServer([use(*refused, write("inside.md"), write("scripts/../ok")), DONE]) as server:
        proposal = ask(make_errand(folder, pi, server, "off"))
        answers = [said["content"] for said in server.turns[1].body["messages"] if said["role"] == "tool"]
    assert (proposal.status, proposal.tool_calls) == ("completed", len(refused) + 2)
    assert proposal.reason.startswith(f"its edits were denied: write: {outside / 'a'} is outside the workspace")
    assert ["Successfully wrote" in str(answer) for answer in answers] == [False] * len(refused) + [True] * 2
    assert "SECRET" not in str(answers)
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text(encoding="utf-8") == "SECRET\n"
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == []
    assert (workspace / "AGENTS.md").read_text(encoding="utf-8") == "new\n"


@pytest.mark.usefixtures("bwrap")
def test_in_the_jail_pi_has_a_shell_that_cannot_write_outside(folder: Path, pi: Path) -> None:
    with ModelServer([use(shell("sed -i s/old/new/ AGENTS.md; echo new > /usr/outside.txt")), DONE]) as server:
        proposal = ask(make_errand(folder, pi, server, "auto"))
    assert proposal.status == "completed"
    assert proposal.reason.startswith("its edits were denied: bash met '")
    assert "/usr/outside.txt: Read-only file system'" in proposal.reason
    assert (folder / "workspace" / "AGENTS.md").read_text(encoding="utf-8") == "new\n"


def test_the_key_is_stored_nowhere(folder: Path, pi: Path, sandbox_mode: SandboxMode) -> None:
    spy = (
        use(shell("env | grep API_KEY; cat /proc/$PPID/environ")) if sandbox_mode == "auto" else use(read("AGENTS.md"))
    )
    with ModelServer([spy, DONE]) as server:
        assert ask(make_errand(folder, pi, server, sandbox_mode)).status == "completed"
        assert (KEY in server.turns[1].text) is (sandbox_mode == "auto")
    logs = "".join(file.read_text(encoding="utf-8") for file in (folder / "logs").iterdir())
    assert KEY not in logs
    assert ("OWN_SERVER_API_KEY=***" in logs) is (sandbox_mode == "auto")
    assert [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []


@pytest.mark.usefixtures("bwrap")
def test_a_login_is_lent(folder: Path, pi: Path, home: Path) -> None:
    (home / ".pi/agent").mkdir(parents=True)
    login = home / ".pi/agent/auth.json"
    login.write_text(json.dumps({"groq": {"type": "api_key", "key": KEY}}), encoding="utf-8")
    before = login.read_bytes()
    with ModelServer([DONE]) as server:
        keys: dict[str, Any] = {"api": None, "api_key": None, "model": "groq/llama-3.3-70b-versatile", "base_url": None}
        errand = make_errand(folder, pi, server, "auto", timeout=30, env={"HTTPS_PROXY": server.url}, **keys)
        proposal = ask(errand)
        assert {request.path for request in server.requests} == {"api.groq.com:443"}  # without a key it asks nobody
    assert (proposal.status, proposal.reason) == ("unavailable", "Connection error; check the network")
    assert login.read_bytes() == before
    assert KEY not in "".join(file.read_text(encoding="utf-8") for file in (folder / "logs").iterdir())


# --------------------------------------------------------------------------------------------------------- failures


def test_a_dead_service_is_noticed_in_seconds(folder: Path, pi: Path) -> None:
    begun = time.monotonic()
    with ModelServer([use(edit("AGENTS.md")), Step(status=500, message="out of order")]) as server:
        proposal = ask(make_errand(folder, pi, server, "off"))
        assert len(server.turns) == 4
    assert time.monotonic() - begun < 30
    assert (proposal.status, proposal.reason) == ("unavailable", "status 500: out of order; try again later")
    assert proposal.tool_calls == 1


@pytest.mark.usefixtures("bwrap")
def test_a_tool_that_hangs(folder: Path, pi: Path) -> None:
    with ModelServer([use(shell("sleep 1000")), DONE]) as server:
        proposal = ask(make_errand(folder, pi, server, "auto", timeout=8))
    assert proposal.status == "timeout"
    assert proposal.reason.startswith("no answer within 8 s: its command `sleep 1000` had been running for ")
    assert proposal.tool_calls == 1
