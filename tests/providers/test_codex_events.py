"""What is made of codex's streams, most of them recorded from codex 0.169 against a scripted server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.backends.codex import judge
from pytest_metaharness.backends.codex_events import Transcript
from pytest_metaharness.core.model import Backend, Proposal, Tokens
from pytest_metaharness.core.processes.process import Captured, Completed

STREAMS = Path(__file__).parent / "streams"


def complete(*, stderr: bytes = b"", returncode: int | None = 0, timed_out: bool = False) -> Completed:
    nothing = Captured(head=b"", tail=b"", dropped=0)
    said = Captured(head=stderr, tail=b"", dropped=0)
    return Completed(
        argv=("codex",), returncode=returncode, timed_out=timed_out, stdout=nothing, stderr=said, duration_s=1.0
    )


def judge_stream(case: str, *, returncode: int | None, source: str = "CODEX_API_KEY", **backend: Any) -> Proposal:
    transcript = Transcript()
    for line in (STREAMS / f"codex-{case}.jsonl").read_bytes().splitlines():
        transcript.take(line)
    completed = complete(
        stderr=(STREAMS / f"codex-{case}.stderr").read_bytes(), returncode=returncode, timed_out=returncode is None
    )
    made = Backend(name="codex", provider="codex", **backend)
    return judge(transcript, completed, backend=made, timeout=5, source=source)


def judge_lines(*lines: str | dict[str, Any], returncode: int = 1, stderr: bytes = b"", **backend: Any) -> Proposal:
    transcript = Transcript()
    for line in lines:
        transcript.take((line if isinstance(line, str) else json.dumps(line)).encode())
    made = Backend(name="codex", provider="codex", **backend)
    return judge(transcript, complete(stderr=stderr, returncode=returncode), backend=made)


def fail(message: str) -> dict[str, Any]:
    return {"type": "turn.failed", "error": {"message": message}}


def test_success_gives_summary_tokens_and_tool_calls() -> None:
    assert judge_stream("success", returncode=0) == Proposal(
        status="completed",
        summary="All done.",
        tokens=Tokens(input=300, cached=60, output=30),
        tool_calls=2,
    )


def test_a_turn_without_tools_is_a_success() -> None:
    proposal = judge_stream("nochange", returncode=0)
    assert (proposal.status, proposal.reason, proposal.tool_calls) == ("completed", "", 0)
    assert proposal.summary == "Nothing to change."


def test_the_exit_code_decides_nothing() -> None:
    assert judge_stream("success", returncode=1).status == "completed"
    assert judge_stream("http401", returncode=0).status == "unavailable"


@pytest.mark.parametrize(
    ("case", "words", "advice"),
    [
        ("http401", "401 Unauthorized: scripted: invalid api key", "check the key in CODEX_API_KEY"),
        ("nocreds", "no credentials in the request", "check the key in CODEX_API_KEY"),
        ("http404", "404 Not Found: The model `gpt-9` does not exist", "check the model 'gpt-9'"),
        ("http429", "429 Too Many Requests", "run fewer at once (-n)"),
        ("http500", "experiencing high demand", "try again later"),
        ("cut", "stream disconnected before completion", "check base_url http://localhost/v1"),
        ("no-server", "Connection failed", "check base_url http://localhost/v1"),
    ],
)
def test_what_the_service_refuses_is_unavailable(case: str, words: str, advice: str) -> None:
    proposal = judge_stream(case, returncode=1, model="gpt-9", base_url="http://localhost/v1")
    assert proposal.status == "unavailable"
    assert words in proposal.reason
    assert proposal.reason.endswith(advice)
    assert "Reconnecting" not in proposal.reason


def test_a_refused_login_is_to_be_renewed() -> None:
    proposal = judge_stream("http401", returncode=1, source="codex login")
    assert proposal.reason.endswith("log in again with `codex login`")


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("You've hit your usage limit. Upgrade to Plus to continue using Codex", "use another account"),
        ("Quota exceeded. Check your plan and billing details.", "use another account"),
        ("unexpected status 402 Payment Required: no", "use another account"),
        ("Selected model is at capacity. Please try a different model.", "try again later"),
        ("unexpected status 403 Forbidden: Country not supported", "check its project, model and region"),
        ("unexpected status 404 Not Found: nothing here, url: http://localhost/v2/responses", "check the model"),
        ("unexpected status 503 Service Unavailable: upstream connection refused", "try again later"),
        ("Your access token could not be refreshed. Please log out and sign in again.", "CODEX_API_KEY"),
        ("The 'gpt-9' model requires a newer version of Codex. Please upgrade", "npm install -g @openai/codex`"),
        (
            '{"detail":"The \'gpt-9\' model is not supported when using Codex with a ChatGPT account."}',
            "set a model that exists",
        ),
        ('{"error": {"message": "no such model", "code": "model_not_found"}}', None),
    ],
)
def test_words_of_the_service_lead_to_advice(message: str, advice: str | None) -> None:
    proposal = judge_lines(fail(message))
    if advice is None:
        assert (proposal.status, proposal.reason) == ("crash", "no such model")
    else:
        assert proposal.status == "unavailable"
        assert proposal.reason.endswith(advice)
        assert "{" not in proposal.reason


def test_other_failures_are_crashes() -> None:
    assert judge_stream("http400", returncode=1) == Proposal(
        status="crash", reason="Invalid schema for function", tool_calls=0
    )
    proposal = judge_lines({"type": "error", "message": "context window exceeded"}, {"type": "turn.failed"})
    assert (proposal.status, proposal.reason) == ("crash", "context window exceeded")


@pytest.mark.parametrize(
    ("case", "returncode", "reason"),
    [
        (
            "bad-flag",
            2,
            "codex ended with exit code 2 before its turn was over: error: unexpected argument '--bogus' found",
        ),
        ("timeout", -9, "codex was killed by signal 9 before its turn was over: 2026-*failed to connect*"),
        ("oss-nocreds", 1, "codex ended with exit code 1 *: Error: OSS setup failed: No running Ollama server*"),
    ],
)
def test_no_end_of_the_turn_is_a_crash(case: str, returncode: int, reason: str) -> None:
    proposal = judge_stream(case, returncode=returncode)
    assert proposal.status == "crash"
    assert Path(proposal.reason.replace("/", "_")).match(reason.replace("/", "_"))


def test_silence_is_told() -> None:
    assert judge_lines().reason == "codex ended with exit code 1 before its turn was over: it said nothing"


@pytest.mark.parametrize(
    ("case", "state"),
    [
        ("timeout", "the model was silent"),
        ("tool-hangs", "its command `sleep 1000` had been running for 0 s"),
        ("bad-flag", "it said nothing"),
        ("success", "its turn was over, but it did not end"),
    ],
)
def test_timeout_tells_what_codex_was_doing(case: str, state: str) -> None:
    proposal = judge_stream(case, returncode=None)
    assert (proposal.status, proposal.reason) == ("timeout", f"no answer within 5 s: {state}")


def test_timeout_while_retrying_tells_why() -> None:
    transcript = Transcript()
    for line in (STREAMS / "codex-no-server.jsonl").read_bytes().splitlines()[:-2]:
        transcript.take(line)
    assert transcript.tell_state() == (
        "its service could not be used (Reconnecting... 5/5 (Connection failed: error sending request))"
    )


@pytest.mark.parametrize(
    ("case", "denial"),
    [
        ("denied-patch", "writing outside of the project"),
        ("denied-command", "codex's own sandbox refused: read_only_file_system"),
        ("denied-quietly", "a command met '/bin/bash: line 1: /etc/x: Read-only file system'"),
        ("no-namespaces", "codex's own sandbox cannot start here (bwrap: No permissions to create new namespace*"),
    ],
)
def test_denied_edits_are_told_apart(case: str, denial: str) -> None:
    proposal = judge_stream(case, returncode=0)
    assert proposal.status == "completed"
    assert proposal.summary == "I could not write."
    wanted = f"its edits were denied: {denial}"
    assert proposal.reason.startswith(wanted.rstrip("*")) if wanted.endswith("*") else proposal.reason == wanted


def test_what_is_not_understood_is_passed_over() -> None:
    proposal = judge_lines(
        "no JSON",
        "[1, 2]",
        "null",
        "",
        '"text"',
        "[" * 5000,
        {"type": "turn.paused"},
        {"type": 7},
        {"type": "item.completed", "item": "none"},
        {"type": "item.completed", "item": {"id": "item_0", "type": "agent_message", "text": ["no text"]}},
        {"type": "item.started", "item": {"id": "item_1", "type": "file_change", "changes": "none"}},
        {"type": "item.completed", "item": {"id": "item_1", "type": "file_change", "changes": [None]}},
        {"type": "item.completed", "item": {"id": "item_2", "type": "todo_list", "items": []}},
        {"type": "turn.completed", "usage": {"input_tokens": "many", "output_tokens": -1}},
        returncode=0,
    )
    assert proposal == Proposal(status="completed", tokens=Tokens(), tool_calls=1)


def test_the_summary_is_one_line_of_bounded_length() -> None:
    text = "First line.\n\n" + "word " * 1000
    proposal = judge_lines(
        {"type": "item.completed", "item": {"id": "item_0", "type": "agent_message", "text": text}},
        {"type": "turn.completed", "usage": {}},
    )
    assert proposal.summary.startswith("First line. word word")
    assert len(proposal.summary) <= 300
    assert proposal.summary.endswith("...")
