"""What is made of claude's streams, recorded from Claude Code 2.1.197 against a scripted server."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_metaharness.backends.claude import AGENT
from pytest_metaharness.core.model import Tokens

from .recorded import judge_lines, judge_stream, read_stream


def say(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"type": "assistant", "message": {"role": "assistant", "content": list(blocks)}}


def call(name: str, **given: Any) -> dict[str, Any]:
    return say({"type": "tool_use", "id": "1", "name": name, "input": given})


def give(content: Any) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": "1", "content": content}
    return {"type": "user", "message": {"role": "user", "content": [block]}}


def end(**more: Any) -> dict[str, Any]:
    return {"type": "result", "subtype": "success", "is_error": False, **more}


def fail(said: str, status: int | None = None, **more: Any) -> dict[str, Any]:
    return end(**{"is_error": True, "api_error_status": status, "result": said, **more})


def test_what_was_answered_without_a_stream_is_counted() -> None:
    proposal = judge_stream(AGENT, "cut", returncode=0)
    assert (proposal.status, proposal.summary) == ("completed", "I will")
    assert proposal.tokens == Tokens(input=220, cached=20, output=20)


def test_tokens_that_are_stored_for_later_are_input() -> None:
    used = {"inputTokens": 1, "cacheReadInputTokens": 20, "cacheCreationInputTokens": 300, "outputTokens": 4000}
    proposal = judge_lines(AGENT, end(modelUsage={"a": used, "b": used}, total_cost_usd=0.5), returncode=0)
    assert (proposal.tokens, proposal.cost_usd) == (Tokens(input=642, cached=40, output=8000), 0.5)
    used = {"input_tokens": 1, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 300, "output_tokens": 4}
    assert judge_lines(AGENT, end(usage=used), returncode=0).tokens == Tokens(input=321, cached=20, output=4)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("http401", "status 401: Invalid API key · Fix external API key; check the key in THE_KEY"),
        ("http403", "status 403: scripted 403; what THE_KEY stands for may not use this: *"),
        (
            "http404",
            "status 404: There's an issue with the selected model (claude-sonnet-4-5). *; check the model 'm1'",
        ),
        ("http429", "status 429: Request rejected (429) · scripted 429; wait a while, or run fewer at once (-n)"),
        ("http500", "status 500: scripted 500; try again later"),
        ("credit", "status 400: Credit balance is too low; wait until it is renewed, or use another account"),
        ("no-server", "Unable to connect to API (ConnectionRefused); check base_url http://localhost"),
        ("nocreds", "Not logged in · Please run /login; check the key in THE_KEY"),
    ],
)
def test_what_the_service_refuses_is_unavailable(case: str, reason: str) -> None:
    proposal = judge_stream(AGENT, case, returncode=1, model="m1", base_url="http://localhost")
    start, _, rest = reason.partition("*")
    assert (proposal.status, proposal.summary, proposal.tokens, proposal.cost_usd) == ("unavailable", "", None, None)
    assert proposal.reason.startswith(start)
    assert proposal.reason.endswith(rest)


def test_a_refused_login_is_to_be_renewed() -> None:
    proposal = judge_stream(AGENT, "http401", returncode=1, source="claude auth login")
    assert proposal.reason.endswith("; log in again with `claude auth login`")


@pytest.mark.parametrize(
    ("said", "status", "advice"),
    [
        ("Failed to authenticate. API Error: 401 OAuth token has expired.", 401, "the key in THE_KEY"),
        ("You've hit your session limit · resets 3pm", 429, "use another account"),
        ("You've reached your weekly limit · resets Monday", None, "use another account"),
        ("You're out of usage credits.", 400, "use another account"),
        ("API Error: Request timed out. Check your internet connection and proxy settings", None, "check the network"),
        ("API Error: 529 Overloaded. This is a server-side issue, usually temporary", 529, "try again later"),
        ("The model m1 is not available on your vertex deployment. Try --model", 404, "set a model that exists"),
        ('API Error: 400 {"type":"error","error":{"type":"x","message":"too long"}}', 400, None),
        ("Prompt is too long", 400, None),
    ],
)
def test_words_of_the_service_lead_to_advice(said: str, status: int | None, advice: str | None) -> None:
    proposal = judge_lines(AGENT, fail(said, status))
    assert proposal.status == ("crash" if advice is None else "unavailable")
    assert proposal.reason.endswith(advice or "")
    assert "{" not in proposal.reason
    assert "API Error" not in proposal.reason


def test_a_failure_of_its_own_is_a_crash() -> None:
    proposal = judge_lines(
        AGENT, fail("", subtype="error_max_turns", errors=["Reached maximum number of turns (1)", 7])
    )
    assert (proposal.status, proposal.reason) == ("crash", "Reached maximum number of turns (1)")
    proposal = judge_lines(AGENT, end(subtype="error_during_execution"))
    assert proposal.reason == "claude said that its turn failed (error_during_execution)"


def test_no_result_is_told() -> None:
    told = "claude ended with exit code 1 before its turn was over: "
    proposal = judge_stream(AGENT, "bad-flag", returncode=1)
    assert (proposal.status, proposal.reason) == ("crash", f"{told}error: unknown option '--no-such-option'")
    assert judge_lines(AGENT).reason == f"{told}it said nothing"


def test_timeout_while_retrying_tells_why() -> None:
    transcript = AGENT.transcript()
    retry = '{"type":"system","subtype":"api_retry","attempt":1,"max_retries":2,"error_status":%s,"error":"overloaded"}'
    transcript.take((retry % 529).encode())
    assert transcript.tell_state() == (
        "its service could not be used (status 529 overloaded, try 1 of 2 after the first)"
    )
    transcript.take((retry % "null").encode())
    assert "(overloaded, try 1 of 2" in transcript.tell_state()
    transcript.take(b'{"type":"assistant","message":{"content":[]}}')
    assert transcript.tell_state() == "the model was silent"


def test_a_tool_that_hangs_is_named_by_its_file() -> None:
    transcript = read_stream(AGENT, "timeout")
    transcript.take(b'{"type":"assistant","message":{"content":[{"type":"tool_use","id":"1","name":"Write",'
                    b'"input":{"file_path":"/a/b.md"}}]}}')  # fmt: skip
    assert transcript.tell_state() == "its tool `Write` on b.md had been running for 0 s"


@pytest.mark.parametrize(
    ("name", "content", "denial"),
    [
        ("Write", "Claude requested permissions to edit /w/.mcp.json which is a sensitive file.", "same"),
        ("Edit", [{"type": "text", "text": "EROFS: read-only file system, open '/usr/x'"}], "EROFS: *"),
        ("Bash", "This Bash command contains multiple operations. The following part requires approval: x", "same"),
        ("Bash", "one\ncp: cannot create '/etc/x': Permission denied\ntwo", "cp: cannot create *"),
        ("Bash", "2 failed", ""),
        ("Read", "/etc/x is outside of the workspace", ""),
        ("Grep", "a.py:1: Permission denied", ""),
    ],
)
def test_only_what_kept_it_from_writing_is_a_denial(name: str, content: Any, denial: str) -> None:
    proposal = judge_lines(AGENT, call(name), give(content), end(), returncode=0)
    wanted = content if denial == "same" else denial.rstrip("*")
    assert proposal.reason.startswith(f"its edits were denied: {wanted}" if denial else "")
    assert bool(proposal.reason) is bool(denial)


def test_what_is_not_understood_is_passed_over() -> None:
    proposal = judge_lines(
        AGENT,
        "no JSON",
        "[1, 2]",
        "null",
        "[" * 5000,
        {"type": 7},
        {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}},
        {"type": "assistant", "message": "none"},
        {"type": "assistant", "message": {"content": ["none", {"type": "thinking"}, {"type": "text", "text": 7}]}},
        {"type": "user", "message": {"content": "a text"}},
        {"type": "user", "message": {"content": [None, {"type": "tool_result", "tool_use_id": 7}]}},
        call("Write", file_path=7),
        end(result=7, usage="none", modelUsage={"a": None, "b": {"inputTokens": "many", "outputTokens": -1}}),
        returncode=0,
    )
    assert (proposal.status, proposal.summary, proposal.tokens) == ("completed", "", Tokens())


def test_an_end_without_a_verdict_is_a_failure() -> None:
    proposal = judge_lines(AGENT, {"type": "result", "subtype": "success"}, returncode=0)
    assert (proposal.status, proposal.reason) == ("crash", "claude said that its turn failed (success)")
