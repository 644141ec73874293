"""The real Claude Code edits a workspace, driven by the provider against a scripted model server on 127.0.0.1."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.core.model import Proposal, Tokens

from .claude_steps import DONE, edit, make_errand, read, shell, use, write
from .model_dialects import Step
from .model_server import ModelServer
from .plain_user import PLAIN_USER, become_plain_user
from .proposing import KEY, SandboxMode, ask, find_processes, finish, start


def read_logs(folder: Path) -> str:
    return "".join(file.read_text(encoding="utf-8") for file in sorted((folder / "logs").iterdir()))


def read_begin(folder: Path) -> dict[str, Any]:
    """Give the event with what claude has been given."""
    return dict(json.loads((folder / "logs" / "stdout").read_text(encoding="utf-8").splitlines()[0]))


# --------------------------------------------------------------------------------------------------------------- edits


@pytest.mark.agents
def test_claude_edits_two_files(folder: Path, claude: Path, key: str, sandbox_mode: SandboxMode) -> None:
    workspace = folder / "workspace"
    edits = [edit(workspace / "AGENTS.md"), write(workspace / "sub" / "new.md")]
    with ModelServer([use(read(workspace / "AGENTS.md")), use(*edits), DONE]) as server:
        proposal = ask(make_errand(folder, claude, server, sandbox_mode))
        assert [request.headers["x-api-key"] for request in server.turns] == [key] * 3
        assert "Read .metaharness/BRIEF.md and improve" in server.turns[0].text
        assert {request.body["model"] for request in server.turns} == {"claude-sonnet-4-5"}
        assert {request.path for request in server.requests} == {"/", "/v1/messages"}
        tools = {tool["name"] for tool in server.turns[0].body["tools"]}
        assert tools == {"Read", "Edit", "Write", "Glob", "Grep"} | ({"Bash"} if sandbox_mode == "auto" else set())
    assert proposal.cost_usd == pytest.approx(3 * 0.000456)  # as claude reckons it
    assert proposal == Proposal(
        status="completed",
        summary="All done. Really.",
        tokens=Tokens(input=360, cached=60, output=30),
        cost_usd=proposal.cost_usd,
        tool_calls=3,
    )
    assert (workspace / "AGENTS.md").read_text(encoding="utf-8") == "new\n"
    assert sorted(path.name for path in workspace.iterdir()) == ["AGENTS.md", "scripts", "sub"]
    assert (folder / "state" / "claude-home").stat().st_mode & 0o777 == 0o700


@pytest.mark.agents
def test_claude_edits_as_plain_user(open_folder: Path, claude: Path, key: str, sandbox_mode: SandboxMode) -> None:
    workspace = open_folder / "workspace"
    workspace.mkdir()
    (workspace / "AGENTS.md").write_text("old\n", encoding="utf-8")
    prefix, environ = become_plain_user(open_folder)
    files = [write(workspace / ".claude" / "commands" / "one.md"), edit(workspace / "AGENTS.md")]
    with ModelServer([use(read(workspace / "AGENTS.md")), use(*files), DONE]) as server:
        proposal = finish(start(make_errand(open_folder, claude, server, sandbox_mode), prefix, env=environ))
    assert (proposal.status, proposal.reason) == ("completed", "")
    assert (workspace / "AGENTS.md").read_text(encoding="utf-8") == "new\n"
    assert (workspace / ".claude" / "commands" / "one.md").stat().st_uid == PLAIN_USER
    assert not find_processes(open_folder)


@pytest.mark.agents
def test_what_configures_agents_can_be_edited(folder: Path, claude: Path, key: str, sandbox_mode: SandboxMode) -> None:
    names = (".claude/skills/one/SKILL.md", ".claude/settings.json", ".mcp.json", ".vscode/settings.json", "CLAUDE.md")
    workspace = folder / "workspace"
    with ModelServer([use(*(write(workspace / name) for name in names)), DONE]) as server:
        proposal = ask(make_errand(folder, claude, server, sandbox_mode))
    assert (proposal.status, proposal.reason, proposal.tool_calls) == ("completed", "", 5)
    assert [(workspace / name).read_text(encoding="utf-8") for name in names] == ["new\n"] * 5


@pytest.mark.agents
@pytest.mark.usefixtures("bwrap")
def test_in_the_jail_every_command_runs(folder: Path, claude: Path, key: str) -> None:
    command = (
        "git init -q && ln -s AGENTS.md link && rm -rf scripts; F=AGENTS.md; echo new > $F; mkdir .claude; "
        "echo {} > .claude/settings.json; diff <(echo a) <(echo b); echo x > /tmp/x; sleep 0.1 & wait\nls -A >list"
    )
    with ModelServer([use(shell(command)), DONE]) as server:
        proposal = ask(make_errand(folder, claude, server, "auto"))
    assert (proposal.status, proposal.reason, proposal.tool_calls) == ("completed", "", 1)
    assert (folder / "workspace" / "AGENTS.md").read_text(encoding="utf-8") == "new\n"
    assert (folder / "workspace" / "list").read_text(encoding="utf-8").split() == [
        ".claude", ".git", "AGENTS.md", "link", "list",
    ]  # fmt: skip


@pytest.mark.agents
@pytest.mark.usefixtures("bwrap")
def test_arguments_and_variables_reach_claude(folder: Path, claude: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PASSED", "HIDDEN", "IS_SANDBOX"):
        monkeypatch.setenv(name, "from the user")
    monkeypatch.setenv("MY_KEY", KEY)
    told = 'echo "[$PASSED|$HIDDEN|$IS_SANDBOX|$GIVEN|$MY_KEY|$ANTHROPIC_API_KEY]"'
    told += '; python -c "import sys; print(sys.prefix)"'
    with ModelServer([use(shell(told)), DONE]) as server:
        keys: dict[str, Any] = {"model": None, "api_key": "MY_KEY", "args": ("--model", "claude-opus-4-5")}
        env = {"PASSED": None, "GIVEN": "in the file"}
        assert ask(make_errand(folder, claude, server, "auto", env=env, **keys)).status == "completed"
        assert server.turns[0].body["model"] == "claude-opus-4-5"
        assert server.turns[0].headers["x-api-key"] == KEY
        assert f"[from the user|||in the file||]\\n{sys.prefix}" in server.turns[1].text


@pytest.mark.agents
@pytest.mark.parametrize("variable", ["ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"])
def test_tokens_serve_as_keys(folder: Path, claude: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, KEY)
    with ModelServer([DONE]) as server:
        assert ask(make_errand(folder, claude, server, "off")).status == "completed"
        assert server.turns[0].headers["authorization"] == f"Bearer {KEY}"
        assert "x-api-key" not in server.turns[0].headers


@pytest.mark.agents
def test_a_local_server_needs_no_key(folder: Path, claude: Path, home: Path) -> None:
    write_login(home)
    with ModelServer([DONE]) as server:
        assert ask(make_errand(folder, claude, server, "off")).status == "completed"
        assert server.turns[0].headers["x-api-key"] == "none"
        assert "authorization" not in server.turns[0].headers  # a login is for its own service


@pytest.mark.agents
def test_a_cloud_is_chosen_by_its_variable(folder: Path, claude: Path, key: str) -> None:
    env = {"CLAUDE_CODE_USE_FOUNDRY": "1", "ANTHROPIC_FOUNDRY_API_KEY": "cloud-0123456789abcdef"}
    with ModelServer([DONE]) as server:
        errand = make_errand(folder, claude, server, "off", env=env, base_url=f"{server.url}/anthropic")
        assert ask(errand).status == "completed"
        assert [request.path for request in server.turns] == ["/anthropic/v1/messages"]
        assert server.turns[0].headers["x-api-key"] == "cloud-0123456789abcdef"


def write_login(home: Path) -> Path:
    file = home / ".claude" / ".credentials.json"
    file.parent.mkdir()
    tokens = {"accessToken": KEY, "refreshToken": "scripted-refresh-token-0001", "scopes": ["user:inference"]}
    content = {"claudeAiOauth": {**tokens, "expiresAt": int((time.time() + 36_000) * 1000), "subscriptionType": "max"}}
    file.write_text(json.dumps(content), encoding="utf-8")
    file.chmod(0o600)
    return file


@pytest.mark.agents
def test_a_login_is_lent(folder: Path, claude: Path, home: Path, sandbox_mode: SandboxMode) -> None:
    file = write_login(home)
    content = file.read_bytes()
    with ModelServer([use(read(folder / "state" / "claude-home" / ".credentials.json")), DONE]) as server:
        env = {"ANTHROPIC_BASE_URL": server.url}  # not base_url: to such a server no login is shown
        proposal = ask(make_errand(folder, claude, server, sandbox_mode, base_url=None, env=env))
        assert server.turns[0].headers["authorization"] == f"Bearer {KEY}"
        assert (KEY in server.turns[1].text) is (sandbox_mode == "auto")
    assert (proposal.status, proposal.reason) == ("completed", "")
    assert file.read_bytes() == content
    assert KEY not in read_logs(folder)


# ------------------------------------------------------------------------------------------- what may not happen

HOOK = [{"hooks": [{"type": "command", "command": "touch MARK-HOOK"}]}]
SETTINGS = {
    "apiKeyHelper": "touch MARK-HELPER; echo marked",
    "enableAllProjectMcpServers": True,
    "env": {"ANTHROPIC_MODEL": "claude-marked", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"},
    "hooks": dict.fromkeys(("SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop"), HOOK),
    "model": "claude-marked",
    "outputStyle": "marked",
    "permissions": {"defaultMode": "plan", "deny": ["Write", "Edit"]},
}
HOSTILE = {
    ".claude/CLAUDE.md": "MARK-INNER\n",
    ".claude/agents/one.md": "---\nname: one\ndescription: MARK-AGENT\n---\nHelp.\n",
    ".claude/commands/one.md": "---\ndescription: MARK-COMMAND\n---\nHelp.\n",
    ".claude/output-styles/marked.md": "---\nname: marked\ndescription: MARK-STYLE\n---\nMARK-STYLE\n",
    ".claude/rules/one.md": "MARK-RULE\n",
    ".claude/settings.json": json.dumps(SETTINGS),
    ".claude/settings.local.json": json.dumps(SETTINGS),
    ".claude/skills/one/SKILL.md": "---\nname: one\ndescription: MARK-SKILL\n---\n",
    ".env": "ANTHROPIC_MODEL=claude-marked\n",
    ".mcp.json": json.dumps({"mcpServers": {"one": {"command": "touch", "args": ["MARK-SERVER"]}}}),
    "AGENTS.md": "old MARK-AGENTS\n",
    "CLAUDE.local.md": "MARK-LOCAL\n",
    "CLAUDE.md": "MARK-CLAUDE @docs/more.md\n",
    "docs/more.md": "MARK-IMPORT\n",
    "scripts/CLAUDE.md": "MARK-NESTED\n",
    "scripts/run.sh": "true\n",
}


@pytest.mark.agents
@pytest.mark.parametrize("context_files", [False, True])
def test_the_workspace_does_not_configure_claude(
    folder: Path, claude: Path, sandbox_mode: SandboxMode, key: str, context_files: bool
) -> None:
    workspace = folder / "workspace"
    for name, text in HOSTILE.items():
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(text, encoding="utf-8")
    (folder / "CLAUDE.md").write_text("MARK-PARENT\n", encoding="utf-8")
    options: dict[str, Any] = {"options": {"context_files": True}} if context_files else {}
    steps = [use(read(workspace / "scripts" / "run.sh")), use(write(workspace / "new.md")), DONE]
    with ModelServer(steps) as server:
        proposal = ask(make_errand(folder, claude, server, sandbox_mode, model=None, **options))
        sent = "".join(request.text for request in server.requests)
    assert (proposal.status, proposal.reason) == ("completed", "")
    assert "claude-marked" not in sent
    fed = {"MARK-CLAUDE", "MARK-IMPORT", "MARK-INNER", "MARK-RULE"}
    assert set(re.findall("MARK-[A-Z]+", sent)) == (fed if context_files else set())
    assert not [path for path in folder.rglob("MARK-*") if path.is_file()]
    begin = read_begin(folder)
    assert [server["name"] for server in begin["mcp_servers"]] == ["metaharness"]
    assert "one" not in (*begin["skills"], *begin["agents"], *begin["slash_commands"])


@pytest.mark.agents
def test_the_brief_can_be_read_where_git_ignores_it(
    folder: Path, claude: Path, key: str, sandbox_mode: SandboxMode
) -> None:
    brief = folder / "workspace" / ".metaharness" / "BRIEF.md"
    brief.parent.mkdir()
    brief.write_text("MARK-BRIEF\n", encoding="utf-8")
    (folder / "workspace" / ".gitignore").write_text(".metaharness/\n", encoding="utf-8")
    with ModelServer([use(read(".metaharness/BRIEF.md")), DONE]) as server:
        assert ask(make_errand(folder, claude, server, sandbox_mode)).status == "completed"
        assert "MARK-BRIEF" in server.turns[1].text


@pytest.mark.agents
def test_nothing_is_written_outside(folder: Path, claude: Path, key: str, sandbox_mode: SandboxMode) -> None:
    workspace = folder / "workspace"
    (folder / "elsewhere").mkdir()
    (workspace / "link").symlink_to(folder / "elsewhere")
    (workspace / ".claude").symlink_to(folder / "elsewhere")
    paths = (folder / "elsewhere" / "x.txt", workspace / ".." / "elsewhere" / "x.txt", workspace / "link" / "x.txt")
    outside = (*paths, workspace / ".claude" / "x.txt", Path("/usr/outside.txt"))
    steps = [use(*map(write, outside)), use(shell(f"echo new > {folder}/elsewhere/x.txt; echo new > /usr/outside.txt"))]
    with ModelServer([*steps, DONE]) as server:
        proposal = ask(make_errand(folder, claude, server, sandbox_mode))
    assert list((folder / "elsewhere").iterdir()) == []
    assert not Path("/usr/outside.txt").exists()
    assert (proposal.status, proposal.tool_calls) == ("completed", 6)
    denial = {"auto": r"\S*(EROFS|EACCES|ENOENT)", "off": re.escape(f"{paths[0]} is outside of the workspace")}
    assert re.match(f"its edits were denied: {denial[sandbox_mode]}", proposal.reason), proposal.reason


@pytest.mark.agents
def test_without_the_jail_there_is_no_shell(folder: Path, claude: Path, key: str) -> None:
    with ModelServer([use(shell("echo new > AGENTS.md")), use(read("/etc/hostname")), DONE]) as server:
        proposal = ask(make_errand(folder, claude, server, "off"))
        assert "/etc/hostname is outside of the workspace" in server.turns[2].text
    assert (folder / "workspace" / "AGENTS.md").read_text(encoding="utf-8") == "old\n"
    assert proposal.reason == "its edits were denied: claude has no shell where our jail is not in use"


@pytest.mark.agents
@pytest.mark.usefixtures("bwrap")
def test_the_key_is_stored_nowhere(folder: Path, claude: Path, key: str) -> None:
    spy = "env | grep -c ANTHROPIC_API_KEY; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -m1 API_KEY"
    with ModelServer([use(shell(spy)), DONE]) as server:
        assert ask(make_errand(folder, claude, server, "auto")).status == "completed"
        assert f"ANTHROPIC_API_KEY={key}" in server.turns[1].text  # in the jail a command can get at it, if not by env
    assert "0\\nANTHROPIC_API_KEY=***" in read_logs(folder)
    assert key not in read_logs(folder)
    stored = [path for path in (folder / "state").rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert stored == []


# --------------------------------------------------------------------------------------------------------- failures

FAILURES = {
    "404": (
        Step(status=404),
        "*It may not exist or you may not have access to it.*; check the model 'claude-sonnet-4-5'",
    ),
    "429": (
        Step(status=429),
        "status 429: Request rejected (429) · scripted 429; wait a while, or run fewer at once (-n)",
    ),
}


@pytest.mark.agents
@pytest.mark.parametrize("failure", FAILURES)
def test_what_the_service_refuses_is_unavailable(
    folder: Path, claude: Path, key: str, sandbox_mode: SandboxMode, failure: str
) -> None:
    step, reason = FAILURES[failure]
    with ModelServer([step]) as server:
        proposal = ask(make_errand(folder, claude, server, sandbox_mode))
        assert 1 <= len(server.turns) <= 4
    assert proposal.status == "unavailable"
    start, _, end = reason.rpartition("*")
    assert proposal.reason.endswith(end)
    assert start.strip("*") in proposal.reason


@pytest.mark.agents
def test_a_cut_stream_is_asked_for_again(folder: Path, claude: Path, key: str) -> None:
    steps = [use(write(folder / "workspace" / "new.md")), Step(text="I will", cut=True)]
    with ModelServer(steps) as server:
        proposal = ask(make_errand(folder, claude, server, "off"))
        assert [bool(request.body.get("stream")) for request in server.turns] == [True, True, False]
    assert (proposal.status, proposal.summary) == ("completed", "I will")
    assert proposal.tokens == Tokens(input=220, cached=20, output=20)


@pytest.mark.agents
def test_no_server_is_unavailable(folder: Path, claude: Path, key: str) -> None:
    with ModelServer([DONE]) as server:
        gone = server.url
    proposal = ask(make_errand(folder, claude, server, "off", base_url=gone))
    assert proposal.status == "unavailable"
    assert proposal.reason == f"Unable to connect to API (ConnectionRefused); check base_url {gone}"


@pytest.mark.agents
def test_wrong_argument_is_a_crash(folder: Path, claude: Path, key: str, sandbox_mode: SandboxMode) -> None:
    with ModelServer([DONE]) as server:
        proposal = ask(make_errand(folder, claude, server, sandbox_mode, args=("--no-such-option",)))
    assert proposal.status == "crash"
    told = "claude ended with exit code 1 before its turn was over: error: unknown option '--no-such-option'"
    assert proposal.reason == told


@pytest.mark.agents
@pytest.mark.usefixtures("bwrap")
def test_a_tool_that_hangs(folder: Path, claude: Path, key: str) -> None:
    with ModelServer([use(shell("sleep 1000 & sleep 1000")), DONE]) as server:
        begun = time.monotonic()
        proposal = ask(make_errand(folder, claude, server, "auto", timeout=8))
        assert time.monotonic() - begun < 16
    assert proposal.status == "timeout"
    assert "its command `sleep 1000 & sleep 1000` had been running for " in proposal.reason
