"""Codex with Ollama or LM Studio: it is never sent there for a model that is not there, which it would download."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.backends.agents import UnavailableError
from pytest_metaharness.backends.codex import AGENT, check_ready, find_service
from pytest_metaharness.core.errors import TargetError
from pytest_metaharness.core.model import Backend, Proposal, Target, Tokens
from pytest_metaharness.core.targets.backend_tables import read_backends
from pytest_metaharness.registry import get_schemas

from .codex_steps import DONE, make_errand, shell
from .model_server import ModelServer
from .proposing import Errand, SandboxMode, ask
from .recorded import judge_stream

MODELS = {"ollama": "gpt-oss:20b", "lmstudio": "openai/gpt-oss-20b"}


def backend(kind: str, **keys: Any) -> Backend:
    return Backend(name="mine", provider="codex", options={"oss": kind}, **keys)


def oss_errand(folder: Path, codex: Path, server: ModelServer, mode: SandboxMode, kind: str, **keys: Any) -> Errand:
    return make_errand(folder, codex, server, mode, **{"options": {"oss": kind}, "model": None, **keys})


def find(made: Backend) -> str:
    return find_service(made, os.environ.get)


def refuse(made: Backend) -> str:
    with pytest.raises(UnavailableError) as refused:
        find(made)
    return str(refused.value)


@pytest.fixture
def gone() -> str:
    """The address of a server that is not there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


# ---------------------------------------------------------------------------------------------------- what is there


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("suffix", ["/v1", "/v1/", "/s/one/v1"])
def test_the_model_is_found(kind: str, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing on this machine is asked for through a proxy
    with ModelServer([DONE], models=("other", MODELS[kind], "mine")) as server:
        address = server.url.removeprefix("http://")
        assert find(backend(kind, base_url=server.url + suffix)) == f"{address} has {MODELS[kind]}"
        assert find(backend(kind, base_url=server.url + suffix, model="mine")) == f"{address} has mine"
        assert {request.method for request in server.requests} == {"GET"}


def test_ollamas_tag_may_be_left_out() -> None:
    with ModelServer([DONE], models=("qwen3:latest",)) as server:
        assert find(backend("ollama", base_url=f"{server.url}/v1", model="qwen3")).endswith(" has qwen3:latest")


@pytest.mark.parametrize("kind", MODELS)
def test_who_is_named_in_the_address_is_told_to_the_server(kind: str) -> None:
    with ModelServer([DONE], models=(MODELS[kind],), require_auth=True) as server:
        found = find(backend(kind, base_url=f"{server.url.replace('://', '://me:pass%40word@')}/v1"))
        assert found == f"{server.url[7:]} has {MODELS[kind]}"
        assert {request.headers["authorization"] for request in server.requests} == {"Basic bWU6cGFzc0B3b3Jk"}


@pytest.mark.parametrize(
    ("kind", "model", "told"),
    [
        ("ollama", None, "Ollama at {} has no model 'gpt-oss:20b'; get it with `ollama pull gpt-oss:20b`"),
        ("ollama", "a/b:1b", "Ollama at {} has no model 'a/b:1b'; get it with `ollama pull a/b:1b`"),
        (
            "lmstudio",
            None,
            "LM Studio at {} has no model 'openai/gpt-oss-20b'; get it with `lms get openai/gpt-oss-20b`",
        ),
    ],
)
def test_a_missing_model_is_told(kind: str, model: str | None, told: str) -> None:
    with ModelServer([DONE], models=("other",)) as server:
        reason = refuse(backend(kind, base_url=f"{server.url}/v1", model=model))
        assert reason == told.format(server.url.removeprefix("http://"))


@pytest.mark.parametrize(("kind", "start"), [("ollama", "ollama serve"), ("lmstudio", "lms server start")])
def test_a_missing_server_is_told(kind: str, start: str, gone: str) -> None:
    reason = refuse(backend(kind, base_url=f"http://user:password@{gone}/v1"))
    name = {"ollama": "Ollama", "lmstudio": "LM Studio"}[kind]
    assert reason == f"{name} does not answer at {gone} (Connection refused); start it with `{start}`"


@pytest.mark.parametrize(
    "url", ["ftp://localhost/v1", "file:///etc/passwd", "http://localhost:port/v1", "http://[::1/v1"]
)
def test_what_is_no_web_address_is_told(url: str) -> None:
    assert "Ollama does not answer at " in refuse(backend("ollama", base_url=url))


@pytest.mark.parametrize(
    ("version", "is_old"),
    [
        ("0.13.3", True),
        ("0.9.10", True),
        ("0.13.4-rc1", True),
        ("0.13.4", False),
        ("0.13.10", False),
        ("0.14.0-rc0", False),
        ("1.0.0", False),
        ("0.0.0", False),
        ("of our own", False),
    ],
)
def test_an_old_ollama_is_told(version: str, is_old: bool) -> None:
    with ModelServer([DONE], models=("gpt-oss:20b",), ollama_version=version) as server:
        made = backend("ollama", base_url=f"{server.url}/v1")
        if is_old:
            told = f"Ollama {version} at {server.url[7:]} is too old; update it to 0.13.4 or newer"
            assert refuse(made) == told
        else:
            assert find(made).endswith(" has gpt-oss:20b")


class _Stranger(BaseHTTPRequestHandler):
    """Some other server on the port."""

    status = 200
    said = b""

    def log_message(self, *_args: object) -> None:
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.said)))
        self.end_headers()
        self.wfile.write(self.said)


@pytest.fixture
def stranger() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("_Own", (_Stranger,), {}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (404, b"{}", "is not LM Studio (status 404); correct base_url"),
        (200, b"<html>", "is not LM Studio (no JSON object); correct base_url"),
        (200, b"[1, 2]", "is not LM Studio (no JSON object); correct base_url"),
        (200, b'{"data": [{"id": 7}, null]}', "has no model 'openai/gpt-oss-20b'; get it with `lms get *"),
        (200, b'{"data": null}', "has no model 'openai/gpt-oss-20b'; get it with `lms get *"),
    ],
)
def test_another_server_is_told(stranger: ThreadingHTTPServer, status: int, said: bytes, told: str) -> None:
    stranger.RequestHandlerClass.status, stranger.RequestHandlerClass.said = status, said  # type: ignore[attr-defined]
    reason = refuse(backend("lmstudio", base_url=f"http://127.0.0.1:{stranger.server_address[1]}/v1"))
    assert told.rstrip("*") in reason


def test_the_services_own_server_is_left_alone(gone: str) -> None:
    assert find(Backend(name="mine", provider="codex")) == ""
    with pytest.raises(UnavailableError, match="nothing answers"):
        find(Backend(name="mine", provider="codex", base_url=f"http://{gone}/v1"))


def test_no_credentials_are_needed(tmp_path: Path) -> None:
    program = tmp_path / "codex"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    target = Target(name="target", file=tmp_path / "metaharness.yaml", goal="Improve.", checks=())
    check_ready(backend("ollama"), target=target, environ={"PATH": str(tmp_path), "HOME": str(tmp_path)})


def test_a_key_is_refused_with_oss() -> None:
    table = {"mine": {"provider": "codex", "oss": "ollama", "api_key": "MY_KEY"}}
    with pytest.raises(TargetError) as refused:
        read_backends(table, providers=get_schemas(), shown_as="p.toml")
    told = (
        "tool.metaharness.backends.mine.api_key: must be left out together with oss: codex shows such a server no key"
    )
    assert refused.value.problems == (f"p.toml: {told}",)


@pytest.mark.parametrize("case", ["http401", "no-server"])
def test_a_server_of_the_users_own_is_to_be_checked(case: str) -> None:
    proposal = judge_stream(AGENT, case, returncode=1, source="")
    assert proposal.status == "unavailable"
    assert proposal.reason.endswith("; check the server")


# -------------------------------------------------------------------------------------------------------- at work


@pytest.mark.agents
@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("kind", MODELS)
def test_codex_edits_the_workspace(
    folder: Path, codex: Path, sandbox_mode: SandboxMode, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = folder / "workspace"
    (folder / "bin").mkdir()
    lms = folder / "bin" / "lms"  # with which codex loads models into LM Studio, and downloads them
    lms.write_text(f'#!/bin/sh\necho "$@" >>{workspace}/lms\n', encoding="utf-8")
    lms.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with ModelServer([shell("sed -i s/old/new/ AGENTS.md; echo new >new.md"), DONE], models=(MODELS[kind],)) as server:
        proposal = ask(oss_errand(folder, codex, server, sandbox_mode, kind))
        assert [request.path for request in server.turns] == ["/v1/responses"] * 2
        assert {request.body["model"] for request in server.turns} == {MODELS[kind]}
        assert "Read .metaharness/BRIEF.md and improve" in server.turns[0].text
        assert not any("authorization" in request.headers for request in server.requests)
    assert proposal == Proposal(
        status="completed",
        summary="All done. Really.",
        tokens=Tokens(input=200, cached=40, output=20),
        tool_calls=1,
    )
    assert (workspace / "AGENTS.md").read_text(encoding="utf-8") == "new\n"
    assert sorted(path.name for path in workspace.iterdir()) == ["AGENTS.md", "new.md", "scripts"]


@pytest.mark.agents
@pytest.mark.parametrize("kind", MODELS)
def test_nothing_is_started_without_the_model(folder: Path, codex: Path, kind: str) -> None:
    with ModelServer([DONE], models=("other",)) as server:
        proposal = ask(oss_errand(folder, codex, server, "off", kind, model="absent"))
        assert {request.method for request in server.requests} == {"GET"}
    assert proposal.status == "unavailable"
    assert proposal.reason.endswith("pull absent`" if kind == "ollama" else "lms get absent`")
    assert list((folder / "logs").iterdir()) == []


@pytest.mark.agents
def test_nothing_is_written_outside(folder: Path, codex: Path, sandbox_mode: SandboxMode) -> None:
    with ModelServer([shell("echo new > /usr/outside.txt"), DONE], models=("gpt-oss:20b",)) as server:
        proposal = ask(oss_errand(folder, codex, server, sandbox_mode, "ollama"))
    assert not Path("/usr/outside.txt").exists()
    assert proposal.status == "completed"
    assert proposal.reason.startswith("its edits were denied: ")
