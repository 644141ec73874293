"""Codex on a ChatGPT login: the one original is lent to one run at a time, and renewals reach it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.backends.logins import lend_login
from pytest_metaharness.core.model import Proposal

from .codex_steps import DONE, make_errand, shell
from .model_server import ModelServer, make_login
from .proposing import Errand, SandboxMode, ask, find_processes, finish, start


def write_login(home: Path, *, lasts: float = -3600) -> Path:
    """Log in with ChatGPT; the access token has run out."""
    file = home / ".codex" / "auth.json"
    file.parent.mkdir()
    tokens = {**make_login(1, lasts=lasts), "account_id": "account-1"}
    content = {"OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": "2026-01-01T00:00:00Z"}
    file.write_text(json.dumps(content), encoding="utf-8")
    file.chmod(0o600)
    return file


def make_login_errand(folder: Path, codex: Path, server: ModelServer, sandbox_mode: SandboxMode, **keys: Any) -> Errand:
    """Make an errand whose every request goes to *server*, as JSON that it can read."""
    args = ("-c", f'chatgpt_base_url="{server.url}/backend-api/"', "-c", "features.enable_request_compression=false")
    env = {"CODEX_REFRESH_TOKEN_URL_OVERRIDE": f"{server.url}/oauth/token"}
    return make_errand(folder, codex, server, sandbox_mode, args=args, env=env, **keys)


def find_spent(server: ModelServer) -> list[str]:
    return [request.body["refresh_token"] for request in server.requests if request.path.endswith("/oauth/token")]


@pytest.mark.agents
def test_a_renewed_login_is_kept(folder: Path, codex: Path, home: Path, sandbox_mode: SandboxMode) -> None:
    file = write_login(home)
    with ModelServer([shell("sed -i s/old/new/ AGENTS.md; cat $CODEX_HOME/auth.json"), DONE]) as server:
        proposal = ask(make_login_errand(folder, codex, server, sandbox_mode))
        renewed = json.loads(file.read_text(encoding="utf-8"))["tokens"]
        assert find_spent(server) == ["scripted-refresh-token-0001"]
        assert server.turns[0].headers["authorization"] == f"Bearer {renewed['access_token']}"
        assert renewed["refresh_token"] in server.turns[1].text
    assert (proposal.status, proposal.reason) == ("completed", "")
    assert renewed["refresh_token"] == "scripted-refresh-token-0002"
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.agents
def test_two_runs_share_a_login_one_after_the_other(
    tmp_path: Path, codex: Path, home: Path, sandbox_mode: SandboxMode
) -> None:
    write_login(home)
    steps = [shell("sed -i s/old/new/ AGENTS.md; sleep 1"), DONE]
    with ModelServer(steps) as server:
        started = []
        for name in ("first", "second"):
            (tmp_path / name / "workspace").mkdir(parents=True)
            (tmp_path / name / "workspace" / "AGENTS.md").write_text("old\n", encoding="utf-8")
            started.append(start(make_login_errand(tmp_path / name, codex, server, sandbox_mode)))
        assert [finish(process).status for process in started] == ["completed", "completed"]
        turns = [(request.headers["authorization"], request.step) for request in server.turns]
        assert [step for _, step in turns] == [0, 1, 0, 1]  # not at the same time
        assert find_spent(server) == ["scripted-refresh-token-0001"]
    assert not find_processes(tmp_path)


@pytest.mark.agents
def test_a_login_in_use_is_refused_in_time(folder: Path, codex: Path, home: Path) -> None:
    file = write_login(home)
    with ModelServer([DONE]) as server, lend_login(file, folder / "mine", linked=True, until=0):
        proposal = ask(make_login_errand(folder, codex, server, "off", timeout=3))
        assert server.requests == []
    assert proposal == Proposal(
        status="unavailable",
        reason=f"the login {file} is in use by another run, and serves one at a time;"
        " set CODEX_API_KEY to run several at once, or lower -n",
    )
