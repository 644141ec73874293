"""What is made of pi's streams, recorded from pi 0.73 against a scripted server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from pytest_metaharness.backends.pi import AGENT
from pytest_metaharness.backends.pi_events import PiTranscript
from pytest_metaharness.core.model import Proposal

from .recorded import judge_lines, judge_stream, read_stream


def say(reason: str, text: str = "", error: str = "", **usage: Any) -> dict[str, Any]:
    """Make the end of a message of the model's."""
    content = [{"type": "text", "text": text}] if text else []
    message = {"role": "assistant", "content": content, "usage": usage, "stopReason": reason, "errorMessage": error}
    return {"type": "message_end", "message": message}


@pytest.mark.parametrize(
    ("case", "words", "advice"),
    [
        ("http401", "status 401: scripted: invalid api key", "check the key in THE_KEY"),
        ("http404", "status 404: The model `m1` does not exist", "check the model 'm1'"),
        ("http429", "status 429: Too Many Requests", "run fewer at once (-n)"),
        ("http500", "status 500: scripted internal error", "try again later"),
        ("cut", "the stream was cut off (terminated)", "check base_url http://localhost/v1"),
        ("no-server", "Connection error", "check base_url http://localhost/v1"),
        ("unknown-service", 'before its turn was over: Error: Unknown provider "nobody"', "check the model 'm1'"),
    ],
)
def test_what_the_service_refuses_is_unavailable(case: str, words: str, advice: str) -> None:
    proposal = judge_stream(AGENT, case, returncode=0, model="m1", base_url="http://localhost/v1")
    assert proposal.status == "unavailable"
    assert words in proposal.reason
    assert proposal.reason.endswith(advice)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            '401 {"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}',
            "status 401: invalid x-api-key; check the key in THE_KEY",
        ),
        ("429", "status 429: no reason given; wait a while, or run fewer at once (-n)"),
        ("503 status code (no body)", "status 503: (no body); try again later"),
    ],
)
def test_the_sentence_of_the_service_is_unwrapped(error: str, reason: str) -> None:
    proposal = judge_lines(AGENT, say("error", error=error), returncode=0)
    assert (proposal.status, proposal.reason) == ("unavailable", reason)


@pytest.mark.parametrize("error", ["", "400 bad schema", "something else"])
def test_other_failures_are_crashes(error: str) -> None:
    told = {"": "pi said that its turn failed", "400 bad schema": "status 400: bad schema"}
    proposal = judge_lines(AGENT, say("aborted", error=error), returncode=0)
    assert (proposal.status, proposal.reason) == ("crash", told.get(error, error))


def test_no_end_of_the_turn_is_a_crash() -> None:
    assert judge_stream(AGENT, "bad-flag", returncode=1) == Proposal(
        status="crash",
        reason="pi ended with exit code 1 before its turn was over: Error: Unknown option: --bogus",
        tool_calls=0,
    )
    assert judge_lines(AGENT, say("toolUse"), returncode=0).status == "crash"
    assert judge_stream(AGENT, "tool-hangs", returncode=143).reason.startswith("pi was killed by signal 15")


def test_a_request_that_is_made_again_decides_nothing() -> None:
    again = {"type": "auto_retry_start", "attempt": 1, "errorMessage": "500 out of order"}
    failed = say("error", error="500 out of order")
    assert judge_lines(AGENT, failed, again, say("stop", "Done."), returncode=0).status == "completed"
    transcript = AGENT.transcript()
    for event in (failed, again):
        transcript.take(json.dumps(event).encode())
    assert transcript.failure == ""
    assert transcript.tell_state() == "its service could not be used (status 500: out of order)"


def test_what_is_said_while_it_is_stopped_does_not_change_what_it_was_doing() -> None:
    transcript = read_stream(AGENT, "tool-hangs")
    transcript.keep_state()
    transcript.take_event({"type": "tool_execution_end", "toolCallId": "call_0_0", "toolName": "bash"})
    transcript.keep_state()
    assert transcript.tell_state() == "its command `sleep 1000` had been running for 0 s"


def test_lines_that_repeat_everything_are_not_even_parsed() -> None:
    taken: list[object] = []

    class Listening(PiTranscript):
        def take_event(self, event: Mapping[str, Any]) -> None:
            taken.append(event)

    transcript = Listening()
    for kind in ("message_update", "message_start", "tool_execution_update", "turn_end", "agent_end", "turn_start"):
        transcript.take(json.dumps({"type": kind}, separators=(",", ":")).encode())
    assert taken == [{"type": "turn_start"}]


def test_what_is_not_understood_is_passed_over() -> None:
    proposal = judge_lines(
        AGENT,
        "no JSON",
        "[1, 2]",
        {"type": 7},
        {"type": "message_end", "message": "none"},
        {
            "type": "message_end",
            "message": {"role": "assistant", "content": "text", "usage": 3, "stopReason": "toolUse"},
        },
        {"type": "message_end", "message": {"role": "assistant", "content": [None, {"text": ["no text"]}]}},
        {"type": "tool_execution_start", "toolCallId": "a", "toolName": "ls", "args": []},
        {"type": "tool_execution_end", "toolCallId": "a", "toolName": "write", "result": {"content": [7]}},
        say("length", "Too lo", input=-1, output="many", cost={"total": "much"}),
        returncode=0,
    )
    assert proposal == Proposal(status="completed", summary="Too lo", tool_calls=1)
