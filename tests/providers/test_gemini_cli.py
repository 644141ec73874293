"""The real Gemini CLI edits a workspace, driven by the provider against a scripted model server on 127.0.0.1."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.core.model import Proposal, Tokens

from .gemini_steps import DONE, edit, make_errand, read, shell, use, write
from .model_dialects import Step
from .model_server import ModelServer
from .plain_user import PLAIN_USER, become_plain_user
from .proposing import KEY, SandboxMode, ask, find_processes, finish, start


def read_logs(folder: Path) -> str:
    return "".join(file.read_text(encoding="utf-8") for file in sorted((folder / "logs").iterdir()))


def read_events(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "logs" / "stdout").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["type"] == kind]


def list_tools(server: ModelServer) -> set[str]:
    return {tool["name"] for group in server.turns[0].body["tools"] for tool in group["functionDeclarations"]}


# --------------------------------------------------------------------------------------------------------------- edits


@pytest.mark.agents
def test_gemini_edits_two_files(folder: Path, gemini: Path, key: str, sandbox_mode: SandboxMode) -> None:
    workspace = folder / "workspace"
    with ModelServer([use(edit(workspace / "AGENTS.md"), write(workspace / "new.md")), DONE]) as server:
        proposal = ask(make_errand(folder, gemini, server, sandbox_mode))
        assert server.turns[0].headers["x-goog-api-key"] == key
        assert "Read .metaharness/BRIEF.md and improve" in server.turns[0].text
        assert {request.body["model"] for request in server.requests} == {"gemini-2.5-flash"}
        tools = {"read_file", "list_directory", "glob", "grep_search", "write_file", "replace", "write_todos"}
        assert list_tools(server) == tools | ({"run_shell_command"} if sandbox_mode == "auto" else set())
    assert proposal == Proposal(
        status="completed",
        summary="All done. Really.",
        tokens=Tokens(input=200, cached=40, output=26),
        tool_calls=2,
    )
    assert (workspace / "AGENTS.md").read_text(encoding="utf-8") == "new\n"
    assert sorted(path.name for path in workspace.iterdir()) == ["AGENTS.md", "new.md", "scripts"]
    assert (folder / "state" / "gemini-home" / ".gemini").stat().st_mode & 0o777 == 0o700


@pytest.mark.agents
def test_gemini_edits_as_plain_user(open_folder: Path, gemini: Path, key: str, sandbox_mode: SandboxMode) -> None:
    workspace = open_folder / "workspace"
    workspace.mkdir()
    (workspace / "AGENTS.md").write_text("old\n", encoding="utf-8")
    prefix, environ = become_plain_user(open_folder)
    with ModelServer([use(edit(workspace / "AGENTS.md")), DONE]) as server:
        proposal = finish(start(make_errand(open_folder, gemini, server, sandbox_mode), prefix, env=environ))
    assert (proposal.status, proposal.reason) == ("completed", "")
    assert (workspace / "AGENTS.md").read_text(encoding="utf-8") == "new\n"
    assert (workspace / "AGENTS.md").stat().st_uid == PLAIN_USER
    assert not find_processes(open_folder)


@pytest.mark.agents
@pytest.mark.usefixtures("bwrap")
def test_in_the_jail_every_command_runs(folder: Path, gemini: Path, key: str) -> None:
    command = "git init -q && ln -s AGENTS.md link && rm -rf scripts; echo new > AGENTS.md; sleep 0.1 & wait\nls >list"
    with ModelServer([use(shell(command)), DONE]) as server:
        proposal = ask(make_errand(folder, gemini, server, "auto"))
    assert (proposal.status, proposal.reason, proposal.tool_calls) == ("completed", "", 1)
    assert (folder / "workspace" / "AGENTS.md").read_text(encoding="utf-8") == "new\n"
    assert sorted(path.name for path in (folder / "workspace").iterdir()) == [".git", "AGENTS.md", "link", "list"]


@pytest.mark.agents
@pytest.mark.usefixtures("bwrap")
@pytest.mark.parametrize("token", ["HIDDEN_TOKEN", "PASSED_TOKEN"])
def test_arguments_and_variables_reach_gemini(
    folder: Path, gemini: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    for name in ("PASSED", "PASSED_TOKEN", "HIDDEN", "HIDDEN_TOKEN"):
        monkeypatch.setenv(name, "from the user")
    monkeypatch.setenv("MY_KEY", KEY)
    env = {"PASSED": None, "GIVEN": "in the file", **({token: None} if token == "PASSED_TOKEN" else {})}
    with ModelServer([use(shell(f'echo "[$PASSED|$HIDDEN|$GIVEN|${token}|$MY_KEY]"')), DONE]) as server:
        keys: dict[str, Any] = {"model": None, "api_key": "MY_KEY", "args": ("-m", "gemini-2.5-pro"), "env": env}
        assert ask(make_errand(folder, gemini, server, "auto", **keys)).status == "completed"
        assert server.turns[0].body["model"] == "gemini-2.5-pro"
        assert server.turns[0].headers["x-goog-api-key"] == KEY
        passed = "from the user" if token in env else ""
        assert f"[from the user||in the file|{passed}|]" in server.turns[1].text


@pytest.mark.agents
def test_a_local_server_needs_no_key(folder: Path, gemini: Path) -> None:
    with ModelServer([DONE]) as server:
        assert ask(make_errand(folder, gemini, server, "off")).status == "completed"
        assert server.turns[0].headers["x-goog-api-key"] == "none"


@pytest.mark.agents
def test_google_cloud_is_chosen_by_its_variable(
    folder: Path, gemini: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "cloud-0123456789abcdef")
    env = {"GOOGLE_GENAI_USE_VERTEXAI": "true", "GOOGLE_API_KEY": None}
    with ModelServer([DONE]) as server:
        assert ask(make_errand(folder, gemini, server, "off", env=env)).status == "completed"
        assert server.turns[0].headers["x-goog-api-key"] == "cloud-0123456789abcdef"
        assert "/publishers/google/models/" in server.turns[0].path


# ------------------------------------------------------------------------------------------- what may not happen

SETTINGS = {
    "advanced": {"ignoreLocalEnv": False},
    "context": {"fileName": "AGENTS.md"},
    "hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "touch $PWD/MARK-HOOK"}]}]},
    "hooksConfig": {"enabled": True},
    "mcpServers": {"one": {"command": "touch", "args": ["MARK-SERVER"], "trust": True}},
    "model": {"name": "gemini-marked"},
    "security": {"folderTrust": {"enabled": False}},
    "telemetry": {"enabled": True, "outfile": "MARK-TELEMETRY"},
    "tools": {"allowed": ["web_fetch"], "core": ["web_fetch"], "discoveryCommand": "touch MARK-DISCOVERY"},
}
HOSTILE = {
    ".agents/skills/one/SKILL.md": "---\nname: one\ndescription: MARK-SKILL\n---\n",
    ".env": "GEMINI_MODEL=gemini-marked\nGOOGLE_GEMINI_BASE_URL=http://127.0.0.1:9\nMARK_ENV=MARK-ENV\n",
    ".gemini/.env": "GEMINI_MODEL=gemini-marked\nMARK_ENV=MARK-ENV\n",
    ".gemini/agents/one.md": "---\nname: one\ndescription: MARK-AGENT\n---\nHelp.\n",
    ".gemini/commands/one.toml": 'prompt = "x"\ndescription = "MARK-COMMAND"\n',
    ".gemini/extensions/one/gemini-extension.json": '{"name": "one", "version": "1.0.0", "contextFileName": "c.md"}',
    ".gemini/extensions/one/c.md": "MARK-EXTENSION\n",
    ".gemini/policies/one.toml": '[[rule]]\ntoolName = "*"\ndecision = "deny"\npriority = 999\n',
    ".gemini/settings.json": json.dumps(SETTINGS),
    ".gemini/skills/two/SKILL.md": "---\nname: two\ndescription: MARK-SKILL\n---\n",
    ".gemini/system.md": "MARK-SYSTEM\n",
    "AGENTS.md": "old MARK-AGENTS\n",
    "GEMINI.md": "MARK-GEMINI\n",
    "scripts/GEMINI.md": "MARK-INNER\n",
    "scripts/run.sh": "true\n",
}


@pytest.mark.agents
@pytest.mark.parametrize("context_files", [False, True])
def test_the_workspace_does_not_configure_gemini(
    folder: Path, gemini: Path, key: str, sandbox_mode: SandboxMode, context_files: bool
) -> None:
    workspace = folder / "workspace"
    for name, text in HOSTILE.items():
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(text, encoding="utf-8")
    options: dict[str, Any] = {"options": {"context_files": True}} if context_files else {}
    with ModelServer([use(read(workspace / "scripts" / "run.sh"), edit(workspace / "AGENTS.md")), DONE]) as server:
        proposal = ask(make_errand(folder, gemini, server, sandbox_mode, model=None, **options))
        sent = "".join(request.text for request in server.requests)
        assert "web_fetch" not in list_tools(server)
    assert (proposal.status, proposal.reason) == ("completed", "")
    assert (workspace / "AGENTS.md").read_text(encoding="utf-8") == "new MARK-AGENTS\n"
    assert "gemini-marked" not in sent
    assert set(re.findall("MARK-[A-Z]+", sent)) - {"MARK-AGENTS"} == ({"MARK-GEMINI"} if context_files else set())
    assert not [path for path in folder.rglob("MARK-*") if path.is_file()]


@pytest.mark.agents
def test_a_context_file_that_leads_out_is_not_followed(folder: Path, gemini: Path, key: str) -> None:
    (folder / "secret").write_text("MARK-OUTSIDE\n", encoding="utf-8")
    (folder / "workspace" / "GEMINI.md").symlink_to(folder / "secret")
    with ModelServer([DONE]) as server:
        errand = make_errand(folder, gemini, server, "off", options={"context_files": True})
        assert ask(errand).status == "completed"
        assert "MARK-OUTSIDE" not in server.turns[0].text


@pytest.mark.agents
def test_the_brief_can_be_read_where_git_ignores_it(
    folder: Path, gemini: Path, key: str, sandbox_mode: SandboxMode
) -> None:
    brief = folder / "workspace" / ".metaharness" / "BRIEF.md"
    brief.parent.mkdir()
    brief.write_text("MARK-BRIEF\n", encoding="utf-8")
    for name in (".gitignore", ".geminiignore"):
        (folder / "workspace" / name).write_text(".metaharness/\n", encoding="utf-8")
    with ModelServer([use(read(".metaharness/BRIEF.md")), DONE]) as server:
        assert ask(make_errand(folder, gemini, server, sandbox_mode)).status == "completed"
        assert "MARK-BRIEF" in server.turns[1].text


@pytest.mark.agents
@pytest.mark.parametrize("way", ["file", "relative", "link"])
def test_nothing_is_written_outside(folder: Path, gemini: Path, key: str, sandbox_mode: SandboxMode, way: str) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "workspace" / "link").symlink_to(folder / "elsewhere")
    paths: dict[str, str | Path] = {
        "file": folder / "elsewhere" / "x.txt",
        "relative": "../elsewhere/x.txt",
        "link": "link/x.txt",
    }
    with ModelServer([use(write(paths[way])), DONE]) as server:
        proposal = ask(make_errand(folder, gemini, server, sandbox_mode))
    assert list((folder / "elsewhere").iterdir()) == []
    assert proposal.status == "completed"
    assert proposal.reason.startswith("its edits were denied: Path not in workspace: ")


@pytest.mark.agents
def test_commands_cannot_write_outside(folder: Path, gemini: Path, key: str, sandbox_mode: SandboxMode) -> None:
    outside = folder / "outside.txt"
    with ModelServer([use(shell(f"echo new > {outside}")), use(shell("echo new > /usr/outside.txt")), DONE]) as server:
        proposal = ask(make_errand(folder, gemini, server, sandbox_mode))
    assert not outside.exists()
    assert not Path("/usr/outside.txt").exists()
    denial = {"auto": "Read-only file system", "off": "gemini has no shell where our jail is not in use"}
    assert proposal.status == "completed"
    assert proposal.reason.startswith("its edits were denied: ")
    assert proposal.reason.endswith(denial[sandbox_mode])


@pytest.mark.agents
def test_build_files_are_denied_by_gemini(folder: Path, gemini: Path, key: str, sandbox_mode: SandboxMode) -> None:
    with ModelServer([use(write(folder / "workspace" / "Makefile")), DONE]) as server:
        proposal = ask(make_errand(folder, gemini, server, sandbox_mode))
    assert not (folder / "workspace" / "Makefile").exists()
    assert proposal.reason.endswith("Modifying build configuration files requires explicit user confirmation")


@pytest.mark.agents
@pytest.mark.usefixtures("bwrap")
def test_the_key_is_stored_nowhere(folder: Path, gemini: Path, key: str) -> None:
    spy = "env | grep -c GEMINI_API_KEY; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep GEMINI_API_KEY"
    with ModelServer([use(shell(spy)), DONE]) as server:
        assert ask(make_errand(folder, gemini, server, "auto")).status == "completed"
        assert f"GEMINI_API_KEY={key}" in server.turns[1].text  # in the jail a command can get at it, if not by env
    assert "0\\nGEMINI_API_KEY=***" in read_logs(folder)
    assert key not in read_logs(folder)
    stored = [path for path in (folder / "state").rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert [path for path in stored if "chats" not in path.parts and "tool-outputs" not in path.parts] == []


# --------------------------------------------------------------------------------------------------------- failures

FAILURES = {
    "404": (Step(status=404, message="models/x is not found"), "status 404: models/x is not found; check the model "),
    "429": (Step(status=429), "status 429: scripted 429; wait a while"),
}


@pytest.mark.agents
@pytest.mark.parametrize("failure", FAILURES)
def test_what_the_service_refuses_is_unavailable(
    folder: Path, gemini: Path, key: str, sandbox_mode: SandboxMode, failure: str
) -> None:
    step, reason = FAILURES[failure]
    begun = time.monotonic()
    with ModelServer([step]) as server:
        proposal = ask(make_errand(folder, gemini, server, sandbox_mode))
        assert len(server.requests) <= 2
    assert proposal.status == "unavailable"
    assert proposal.reason.startswith(reason)
    assert time.monotonic() - begun < 30


@pytest.mark.agents
def test_no_server_is_unavailable(folder: Path, gemini: Path, key: str) -> None:
    with ModelServer([DONE]) as server:
        gone = server.url
    proposal = ask(make_errand(folder, gemini, server, "off", base_url=gone))
    assert proposal.status == "unavailable"
    assert proposal.reason.endswith(f"fetch failed sending request; check base_url {gone}")


@pytest.mark.agents
def test_an_unusable_login_is_unavailable(folder: Path, gemini: Path, home: Path, sandbox_mode: SandboxMode) -> None:
    file = home / ".gemini" / "oauth_creds.json"
    file.parent.mkdir()
    file.write_text('{"type": "nobody", "access_token": "no-token-of-anybody"}', encoding="utf-8")
    with ModelServer([DONE]) as server:
        proposal = ask(make_errand(folder, gemini, server, sandbox_mode, base_url=None))
    assert proposal.status == "unavailable"
    assert "Manual authorization is required" in proposal.reason
    assert proposal.reason.endswith("; log in again with `gemini`")
    assert "no-token-of-anybody" in file.read_text(encoding="utf-8")


@pytest.mark.agents
def test_wrong_argument_is_a_crash(folder: Path, gemini: Path, key: str, sandbox_mode: SandboxMode) -> None:
    with ModelServer([DONE]) as server:
        proposal = ask(make_errand(folder, gemini, server, sandbox_mode, args=("--no-such-option",)))
    assert proposal.status == "crash"
    assert proposal.reason.startswith("gemini ended with exit code 1 before its turn was over: Unknown arguments: ")


@pytest.mark.agents
@pytest.mark.usefixtures("bwrap")
def test_a_tool_that_hangs(folder: Path, gemini: Path, key: str) -> None:
    with ModelServer([use(shell("sleep 1000 & sleep 1000")), DONE]) as server:
        begun = time.monotonic()
        proposal = ask(make_errand(folder, gemini, server, "auto", timeout=8))
        assert time.monotonic() - begun < 18
    assert proposal.status == "timeout"
    assert "its command `sleep 1000 & sleep 1000` had been running for " in proposal.reason
    assert [event["tool_name"] for event in read_events(folder, "tool_use")] == ["run_shell_command"]
