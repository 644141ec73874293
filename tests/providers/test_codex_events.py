"""What is made of codex's streams, most of them recorded from codex 0.169 against a scripted server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.backends.codex import AGENT
from pytest_metaharness.backends.codex_events import CodexTranscript
from pytest_metaharness.core.model import Proposal, Tokens

from .recorded import STREAMS, judge_lines, judge_stream


def fail(message: str) -> dict[str, Any]:
    return {"type": "turn.failed", "error": {"message": message}}


@pytest.mark.parametrize(
    ("case", "words", "advice"),
    [
        ("http401", "401 Unauthorized: scripted: invalid api key", "check the key in THE_KEY"),
        ("nocreds", "no credentials in the request", "check the key in THE_KEY"),
        ("http404", "404 Not Found: The model `gpt-9` does not exist", "check the model 'gpt-9'"),
        ("http429", "429 Too Many Requests", "run fewer at once (-n)"),
        ("http500", "experiencing high demand", "try again later"),
        ("cut", "stream disconnected before completion", "check base_url http://localhost/v1"),
        ("no-server", "Connection failed", "check base_url http://localhost/v1"),
        ("oss-nocreds", "before its turn was over: Error: OSS setup failed", "check base_url http://localhost/v1"),
    ],
)
def test_what_the_service_refuses_is_unavailable(case: str, words: str, advice: str) -> None:
    proposal = judge_stream(AGENT, case, returncode=1, model="gpt-9", base_url="http://localhost/v1")
    assert proposal.status == "unavailable"
    assert words in proposal.reason
    assert proposal.reason.endswith(advice)
    assert "Reconnecting" not in proposal.reason


def retry(number: int, reason: str) -> dict[str, Any]:
    return {"type": "error", "message": f"Reconnecting... {number}/5 ({reason})"}


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("High demand.", "High demand (its service failed 3 times); try again later"),
        ("Connection failed", "Connection failed (its service failed 3 times); check base_url http://localhost/v1"),
    ],
)
def test_a_dead_service_is_given_up(reason: str, told: str) -> None:
    transcript = CodexTranscript()
    for number in (1, 2, 3):
        assert not transcript.is_hopeless
        transcript.take_event(retry(number, reason))
    assert (transcript.is_hopeless, transcript.completed) == (True, False)
    notices = [retry(number, reason) for number in (1, 2, 3)]
    proposal = judge_lines(AGENT, *notices, returncode=-15, base_url="http://localhost/v1")
    assert (proposal.status, proposal.reason) == ("unavailable", told)


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("unexpected status 401 Unauthorized: no", "unavailable"),
        ("unexpected status 400 Bad Request: no", "crash"),
    ],
)
def test_a_service_that_refuses_a_request_is_not_busy(reason: str, status: str) -> None:
    proposal = judge_lines(AGENT, *(retry(number, reason) for number in (1, 2, 3)), returncode=-15)
    assert proposal.status == status
    assert proposal.reason.removesuffix("; check the key in THE_KEY") == reason


def test_what_succeeds_in_between_is_no_dead_service() -> None:
    transcript = CodexTranscript()
    for _ in range(5):
        transcript.take_event(retry(1, "High demand."))
        transcript.take_event(retry(2, "High demand."))
        transcript.take_event({"type": "item.completed", "item": {"id": "1", "type": "agent_message", "text": "Yes."}})
    assert not transcript.is_hopeless


def test_an_answer_that_breaks_off_is_no_dead_service() -> None:
    transcript = CodexTranscript()
    for number in range(1, 6):
        transcript.take_event(retry(number, "stream disconnected before completion"))
    assert not transcript.is_hopeless


def test_a_socket_that_is_refused_is_no_dead_service() -> None:
    """Codex tries it before HTTP, and does not tell of the first failure."""
    transcript = CodexTranscript()
    for number in (2, 3, 4, 5):
        transcript.take_event(retry(number, "unexpected status 404 Not Found"))
    assert not transcript.is_hopeless


def test_a_password_in_the_base_url_is_not_shown() -> None:
    proposal = judge_stream(AGENT, "no-server", returncode=1, base_url="http://me:s3cr3t@localhost/v1")
    assert proposal.reason.endswith("check base_url http://localhost/v1")


def test_a_refused_login_is_to_be_renewed() -> None:
    proposal = judge_stream(AGENT, "http401", returncode=1, source="codex login")
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
        ("Your access token could not be refreshed. Please log out and sign in again.", "THE_KEY"),
        ("The 'gpt-9' model requires a newer version of Codex. Please upgrade", "npm install -g @openai/codex`"),
        (
            '{"detail":"The \'gpt-9\' model is not supported when using Codex with a ChatGPT account."}',
            "set a model that exists",
        ),
        ('{"error": {"message": "no such model", "code": "model_not_found"}}', None),
    ],
)
def test_words_of_the_service_lead_to_advice(message: str, advice: str | None) -> None:
    proposal = judge_lines(AGENT, fail(message))
    if advice is None:
        assert (proposal.status, proposal.reason) == ("crash", "no such model")
    else:
        assert proposal.status == "unavailable"
        assert proposal.reason.endswith(advice)
        assert "{" not in proposal.reason


def test_other_failures_are_crashes() -> None:
    assert judge_stream(AGENT, "http400", returncode=1) == Proposal(
        status="crash", reason="Invalid schema for function", tool_calls=0
    )
    proposal = judge_lines(AGENT, {"type": "error", "message": "context window exceeded"}, {"type": "turn.failed"})
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
    ],
)
def test_no_end_of_the_turn_is_a_crash(case: str, returncode: int, reason: str) -> None:
    proposal = judge_stream(AGENT, case, returncode=returncode)
    assert proposal.status == "crash"
    assert Path(proposal.reason.replace("/", "_")).match(reason.replace("/", "_"))


def test_timeout_while_retrying_tells_why() -> None:
    transcript = CodexTranscript()
    for line in (STREAMS / "codex-no-server.jsonl").read_bytes().splitlines()[:-5]:
        transcript.take(line)
    assert transcript.tell_state() == (
        "its service could not be used (Reconnecting... 2/5 (Connection failed: error sending request))"
    )


def test_what_is_not_understood_is_passed_over() -> None:
    proposal = judge_lines(
        AGENT,
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
        AGENT,
        {"type": "item.completed", "item": {"id": "item_0", "type": "agent_message", "text": text}},
        {"type": "turn.completed", "usage": {}},
    )
    assert proposal.summary.startswith("First line. word word")
    assert len(proposal.summary) <= 300
    assert proposal.summary.endswith("...")
