"""The real Codex CLI edits a workspace, driven by the provider against a scripted model server on 127.0.0.1."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.core.model import Proposal, Tokens

from .codex_steps import DONE, PATCH, javascript, make_errand, patch, shell
from .model_dialects import Step
from .model_server import ModelServer
from .plain_user import PLAIN_USER, become_plain_user
from .proposing import KEY, SandboxMode, ask, find_processes, finish, start


def read_logs(folder: Path) -> str:
    return "".join(file.read_text(encoding="utf-8") for file in sorted((folder / "logs").iterdir()))


# --------------------------------------------------------------------------------------------------------------- edits

EDITS = {
    "patch": ("gpt-5.5", [patch()]),
    "shell": ("gpt-5.5", [shell("sed -i s/old/new/ AGENTS.md")]),
    "lite-patch": (None, [javascript(f"apply_patch({json.dumps(PATCH)})")]),
    "lite-shell": (None, [javascript('exec_command({cmd: "sed -i s/old/new/ AGENTS.md"})')]),
}


@pytest.mark.agents
@pytest.mark.parametrize("way", EDITS)
def test_codex_edits_the_workspace(folder: Path, codex: Path, key: str, sandbox_mode: SandboxMode, way: str) -> None:
    model, edits = EDITS[way]
    with ModelServer([*edits, DONE]) as server:
        proposal = ask(make_errand(folder, codex, server, sandbox_mode, model=model))
        assert server.turns[0].headers["authorization"] == f"Bearer {key}"
        assert "Read .metaharness/BRIEF.md and improve" in server.turns[0].text
        if model:
            assert {request.body["model"] for request in server.turns} == {model}
    assert proposal == Proposal(
        status="completed",
        summary="All done. Really.",
        tokens=Tokens(input=200, cached=40, output=20),
        tool_calls=1,
    )
    assert (folder / "workspace" / "AGENTS.md").read_text(encoding="utf-8") == "new\n"
    assert sorted(path.name for path in (folder / "workspace").iterdir()) == ["AGENTS.md", "scripts"]
    assert (folder / "state" / "codex-home").stat().st_mode & 0o777 == 0o700


@pytest.mark.agents
@pytest.mark.parametrize("way", ["patch", "shell"])
def test_codex_edits_the_workspace_as_plain_user(
    open_folder: Path, codex: Path, key: str, sandbox_mode: SandboxMode, way: str
) -> None:
    (open_folder / "workspace").mkdir()
    (open_folder / "workspace" / "AGENTS.md").write_text("old\n", encoding="utf-8")
    prefix, environ = become_plain_user(open_folder)
    with ModelServer([*EDITS[way][1], DONE]) as server:
        proposal = finish(start(make_errand(open_folder, codex, server, sandbox_mode), prefix, env=environ))
    assert (proposal.status, proposal.reason) == ("completed", "")
    edited = open_folder / "workspace" / "AGENTS.md"
    assert edited.read_text(encoding="utf-8") == "new\n"
    assert edited.stat().st_uid == PLAIN_USER
    assert not find_processes(open_folder)


@pytest.mark.agents
def test_arguments_and_variables_reach_codex(
    folder: Path, codex: Path, monkeypatch: pytest.MonkeyPatch, sandbox_mode: SandboxMode
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setenv("PASSED", "from the user")
    monkeypatch.setenv("KEPT_BACK", "from the user")
    args = ("-c", 'model_reasoning_effort="low"')
    with ModelServer([shell('echo "[$PASSED|$KEPT_BACK|$GIVEN|$MY_KEY]"'), DONE]) as server:
        keys: dict[str, Any] = {"api_key": "MY_KEY", "args": args, "env": {"PASSED": None, "GIVEN": "in the file"}}
        assert ask(make_errand(folder, codex, server, sandbox_mode, **keys)).status == "completed"
        assert server.turns[0].body["reasoning"]["effort"] == "low"
        assert server.turns[0].headers["authorization"] == f"Bearer {KEY}"
        assert "[from the user||in the file|]" in server.turns[1].text


@pytest.mark.agents
def test_python_is_the_one_that_runs_pytest(folder: Path, codex: Path, key: str, sandbox_mode: SandboxMode) -> None:
    with ModelServer([shell("python -c 'import sys; print(sys.prefix)'"), DONE]) as server:
        assert ask(make_errand(folder, codex, server, sandbox_mode)).status == "completed"
        assert f"\\n{sys.prefix}\\n" in server.turns[1].text


# ------------------------------------------------------------------------------------------- what may not happen


@pytest.mark.agents
@pytest.mark.parametrize("context_files", [False, True])
def test_the_workspace_does_not_instruct_codex(
    folder: Path, codex: Path, key: str, sandbox_mode: SandboxMode, context_files: bool
) -> None:
    files = {
        "AGENTS.md": "MARK-AGENTS",
        ".agents/skills/one/SKILL.md": "---\nname: one\ndescription: MARK-SKILL\n---\n",
        ".codex/skills/two/SKILL.md": "---\nname: two\ndescription: MARK-SKILL\n---\n",
        ".codex/config.toml": 'developer_instructions = "MARK-CONFIG"\n',
    }
    for name, text in files.items():
        path = folder / "workspace" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    options: dict[str, Any] = {"options": {"context_files": True}} if context_files else {}
    with ModelServer([shell("true"), DONE]) as server:
        assert ask(make_errand(folder, codex, server, sandbox_mode, **options)).status == "completed"
        sent = "".join(request.text for request in server.turns)
    assert "Read .metaharness/BRIEF.md" in sent
    assert [mark in sent for mark in ("MARK-AGENTS", "MARK-SKILL", "MARK-CONFIG")] == [context_files] * 2 + [False]


@pytest.mark.agents
def test_the_key_is_stored_nowhere(folder: Path, codex: Path, key: str, sandbox_mode: SandboxMode) -> None:
    spy = "env | grep -c CODEX_API_KEY; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep CODEX_API_KEY"
    with ModelServer([shell(spy), DONE]) as server:
        assert ask(make_errand(folder, codex, server, sandbox_mode)).status == "completed"
        # Where codex has no sandbox of its own a tool can get at the key, though not by env alone.
        assert (f"CODEX_API_KEY={key}" in server.turns[1].text) is (sandbox_mode == "auto")
    logs = read_logs(folder)
    assert key not in logs
    assert ('"aggregated_output":"0\\nCODEX_API_KEY=***' in logs) is (sandbox_mode == "auto")
    stored = [path for path in (folder / "state").rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert stored == []


@pytest.mark.agents
@pytest.mark.parametrize("way", ["patch", "shell"])
def test_denied_edits_are_told(folder: Path, codex: Path, key: str, way: str) -> None:
    outside = folder / "outside.txt"
    steps = {
        "patch": patch(f"*** Begin Patch\n*** Add File: {outside}\n+new\n*** End Patch\n"),
        "shell": shell(f"echo new > {outside}"),
    }
    with ModelServer([steps[way], DONE]) as server:
        proposal = ask(make_errand(folder, codex, server, "off"))
    assert not outside.exists()
    assert proposal.status == "completed"
    denial = {"patch": "writing outside of the project", "shell": "codex's own sandbox refused: read_only_file_system"}
    assert proposal.reason == f"its edits were denied: {denial[way]}"


@pytest.mark.agents
@pytest.mark.parametrize("sandbox", ["read-only", "workspace-write", "danger-full-access"])
def test_codex_own_sandbox_is_as_configured(folder: Path, codex: Path, key: str, sandbox: str) -> None:
    outside = folder / "outside.txt"
    command = f"echo new > AGENTS.md; echo new > {outside}; true"
    with ModelServer([shell(command), DONE]) as server:
        errand = make_errand(folder, codex, server, "off", options={"sandbox": sandbox})
        assert ask(errand).status == "completed"
    is_written = (folder / "workspace" / "AGENTS.md").read_text(encoding="utf-8") == "new\n"
    assert (is_written, outside.exists()) == (sandbox != "read-only", sandbox == "danger-full-access")


@pytest.mark.agents
@pytest.mark.usefixtures("bwrap")
def test_edits_denied_by_our_jail_are_told(folder: Path, codex: Path, key: str) -> None:
    with ModelServer([shell("echo new > /usr/outside.txt"), DONE]) as server:
        proposal = ask(make_errand(folder, codex, server, "auto"))
    assert proposal.status == "completed"
    assert "its edits were denied: a command met '" in proposal.reason
    assert "/usr/outside.txt: Read-only file system'" in proposal.reason


# --------------------------------------------------------------------------------------------------------- failures


@pytest.mark.agents
def test_rate_limit_is_unavailable(folder: Path, codex: Path, key: str, sandbox_mode: SandboxMode) -> None:
    with ModelServer([patch(), Step(status=429)]) as server:
        proposal = ask(make_errand(folder, codex, server, sandbox_mode))
    assert proposal.status == "unavailable"
    assert proposal.reason.endswith("; wait a while, or run fewer at once (-n)")
    assert proposal.tool_calls == 1


@pytest.mark.agents
def test_wrong_argument_is_a_crash(folder: Path, codex: Path, key: str, sandbox_mode: SandboxMode) -> None:
    with ModelServer([DONE]) as server:
        proposal = ask(make_errand(folder, codex, server, sandbox_mode, args=("--no-such-option",)))
    assert proposal.status == "crash"
    assert "exit code 2" in proposal.reason
    assert "unexpected argument '--no-such-option' found" in proposal.reason


@pytest.mark.agents
def test_a_tool_that_hangs(folder: Path, codex: Path, key: str, sandbox_mode: SandboxMode) -> None:
    with ModelServer([shell("sleep 1000", yield_time_ms=600_000), DONE]) as server:
        begun = time.monotonic()
        proposal = ask(make_errand(folder, codex, server, sandbox_mode, timeout=4))
        assert time.monotonic() - begun < 9
    assert proposal.status == "timeout"
    assert proposal.reason.startswith("no answer within 4 s: its command `sleep 1000` had been running for ")
    assert proposal.tool_calls == 1
