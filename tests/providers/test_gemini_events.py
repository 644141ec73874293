"""What is made of gemini's streams, recorded from Gemini CLI 0.61 against a scripted server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_metaharness.backends.gemini import AGENT
from pytest_metaharness.core.model import Proposal

from .recorded import judge_lines, judge_stream, read_stream


def fail(message: str | dict[str, Any]) -> dict[str, Any]:
    text = message if isinstance(message, str) else f"[API Error: {json.dumps(message)}]"
    return {"type": "result", "status": "error", "error": {"type": "unknown", "message": text}}


@pytest.mark.parametrize(
    ("case", "returncode", "reason"),
    [
        ("http401", 145, "status 401 UNAUTHENTICATED: scripted: invalid api key; check the key in THE_KEY"),
        ("http404", 148, "status 404: models/x is not found for API version v1beta; check the model 'm1'"),
        ("http429", 173, "status 429: scripted 429; wait a while, or run fewer at once (-n)"),
        ("http500", 244, "status 500 INTERNAL: scripted 500; try again later"),
        ("http503", 247, "status 503: scripted 503; try again later"),
        ("cut", 1, "the stream was cut off (terminated); check base_url http://localhost"),
        ("no-server", 1, "exception TypeError: fetch failed sending request; check base_url http://localhost"),
    ],
)
def test_what_the_service_refuses_is_unavailable(case: str, returncode: int, reason: str) -> None:
    proposal = judge_stream(AGENT, case, returncode=returncode, model="m1", base_url="http://localhost")
    assert (proposal.status, proposal.reason, proposal.tokens) == ("unavailable", reason, None)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ({"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}, "the key in THE_KEY"),
        ({"error": {"code": 400, "message": "API key expired. Please renew the API key."}}, "the key in THE_KEY"),
        ({"error": {"code": 403, "message": "no", "status": "PERMISSION_DENIED"}}, "project, model and region"),
        ({"error": {"code": 429, "message": "You exceeded your current quota."}}, "use another account"),
        ({"error": {"code": 503, "message": "The model is overloaded."}}, "try again later"),
        ("[API Error: Model stream ended without a finish reason.]", "check the network"),
        ({"error": {"code": 400, "message": "Unable to submit request"}}, None),
        ("[API Error: context window exceeded]", None),
    ],
)
def test_words_of_the_service_lead_to_advice(message: str | dict[str, Any], advice: str | None) -> None:
    proposal = judge_lines(AGENT, fail(message))
    assert proposal.status == ("crash" if advice is None else "unavailable")
    assert proposal.reason.endswith(advice or "")
    assert "{" not in proposal.reason
    assert "API Error" not in proposal.reason


def test_an_error_wrapped_twice_is_unwrapped() -> None:
    inner = json.dumps({"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}})
    proposal = judge_lines(AGENT, fail({"error": {"message": inner, "code": 400, "status": "Bad Request"}}))
    assert proposal.reason == "status 400 INVALID_ARGUMENT: API key not valid; check the key in THE_KEY"
    proposal = judge_lines(AGENT, fail({"error": {"message": "", "code": 404, "status": "Not Found"}}))
    assert proposal.reason == "status 404 Not Found; check the model"


@pytest.mark.parametrize(
    ("case", "returncode", "status", "complaint"),
    [
        ("bad-flag", 1, "crash", "Unknown arguments: such-option, suchOption"),
        ("bad-settings", 52, "crash", "Error in /workspace/.gemini/settings.json: Unexpected end of JSON input"),
        (
            "nocreds",
            41,
            "unavailable",
            "When using Gemini API, you must specify the GEMINI_API_KEY environment variable",
        ),
    ],
)
def test_no_result_is_told(case: str, returncode: int, status: str, complaint: str) -> None:
    proposal = judge_stream(AGENT, case, returncode=returncode)
    advice = "; check the key in THE_KEY" if status == "unavailable" else ""
    told = f"gemini ended with exit code {returncode} before its turn was over: {complaint.rstrip('*')}"
    assert proposal.status == status
    assert proposal.reason.startswith(told)
    assert proposal.reason.endswith(advice)


def test_a_login_that_is_no_longer_good_is_unavailable() -> None:
    said = b"\x1b[31mManual authorization is required but the current session is non-interactive.\x1b[0m\n"
    proposal = judge_lines(AGENT, stderr=said, returncode=41)
    assert proposal.status == "unavailable"
    assert "\x1b" not in proposal.reason


def test_a_tool_that_hangs_is_named_by_its_file() -> None:
    transcript = read_stream(AGENT, "timeout")
    transcript.take(b'{"type":"tool_use","tool_name":"replace","tool_id":"1","parameters":{"file_path":"/a/b.md"}}')
    assert transcript.tell_state() == "its tool `replace` on b.md had been running for 0 s"


@pytest.mark.parametrize(
    "said",
    [
        "Blocked: command substitution detected in shell command.",
        "Tool execution denied by policy.",
        "cp: cannot create regular file '/etc/x': Permission denied",
    ],
)
def test_denied_commands_are_told(said: str) -> None:
    proposal = judge_lines(
        AGENT,
        {"type": "tool_use", "tool_name": "run_shell_command", "tool_id": "1", "parameters": {"command": "x"}},
        {"type": "tool_result", "tool_id": "1", "status": "success", "output": f"first\n{said}\nlast"},
        {"type": "result", "status": "success"},
        returncode=0,
    )
    assert proposal.reason == f"its edits were denied: {said}"


def test_a_failed_reading_is_no_denial() -> None:
    proposal = judge_lines(
        AGENT,
        {"type": "tool_use", "tool_name": "read_file", "tool_id": "1", "parameters": {"file_path": "/etc/x"}},
        {"type": "tool_result", "tool_id": "1", "status": "error", "output": "Path not in workspace: /etc/x"},
        {"type": "result", "status": "success"},
        returncode=0,
    )
    assert proposal == Proposal(status="completed", tool_calls=1)


def test_what_is_not_understood_is_passed_over() -> None:
    proposal = judge_lines(
        AGENT,
        "no JSON",
        "[1, 2]",
        "null",
        "",
        "[" * 5000,
        {"type": 7},
        {"type": "thought", "content": "hm"},
        {"type": "message", "role": "assistant", "content": ["no text"]},
        {"type": "tool_use", "parameters": "none"},
        {"type": "tool_result", "tool_id": "never", "error": "none"},
        {"type": "result", "status": "success", "stats": {"total_tokens": "many", "input_tokens": -1}},
        returncode=0,
    )
    assert proposal == Proposal(status="completed", tool_calls=2)


def test_the_summary_is_the_last_message() -> None:
    def say(text: str) -> dict[str, Any]:
        return {"type": "message", "role": "assistant", "content": text, "delta": True}

    proposal = judge_lines(
        AGENT,
        say("I will."),
        {"type": "tool_use", "tool_name": "glob", "tool_id": "1", "parameters": {}},
        say("All\n"),
        say("done."),
        {"type": "result", "status": "success"},
        returncode=0,
    )
    assert proposal.summary == "All done."
