"""What is made of opencode's streams and log, recorded from opencode 1.18 against a scripted server."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_metaharness.backends.opencode import AGENT
from pytest_metaharness.backends.opencode_events import OpencodeTranscript
from pytest_metaharness.core.model import Proposal

from .recorded import judge_lines, judge_stream, read_stream

LOG = b"timestamp=2026-11-23T12:00:00.000Z level="
FAILED = LOG + b'ERROR message="stream error" providerID=x small=false agent=build error.error="AI_APICallError: %s"'


def finish(reason: str, **part: Any) -> dict[str, Any]:
    return {"type": "step_finish", "part": {"type": "step-finish", "reason": reason, **part}}


def fail(name: str, **data: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"name": name, "data": data}}


def test_a_refused_key_is_unavailable() -> None:
    proposal = judge_stream(AGENT, "http401", returncode=1)
    assert proposal.status == "unavailable"
    assert proposal.reason == "status 401: scripted: invalid api key; check the key in THE_KEY"


@pytest.mark.parametrize(
    ("case", "failure"),
    [
        ("http404", "The model `m1` does not exist"),
        ("http429", "Too Many Requests"),
        ("http500", "scripted internal error"),
        ("cut", "Cannot connect to API: The socket connection was closed unexpectedly"),
        (
            "no-server",
            "Cannot connect to API: Unable to connect. Is the computer able to access the url?",
        ),
    ],
)
def test_a_dead_service_is_given_up(case: str, failure: str) -> None:
    transcript = read_stream(AGENT, case)
    assert (transcript.is_hopeless, transcript.completed) == (True, False)
    assert transcript.failure == f"{failure} (its service failed 3 times)"


def test_what_succeeds_in_between_is_no_dead_service() -> None:
    transcript = OpencodeTranscript()
    for _ in range(5):
        transcript.take_stderr(FAILED % b"out of order")
        transcript.take_stderr(FAILED % b"out of order")
        assert transcript.tell_state() == "its service could not be used (out of order)"
        transcript.take_event(finish("tool-calls"))
    assert not transcript.is_hopeless
    assert transcript.retry == ""


@pytest.mark.parametrize("told", [True, False])
def test_failures_that_are_not_told_are_counted_too(told: bool) -> None:
    transcript = OpencodeTranscript()
    for line in (b"INFO message=loop step=1", *[b"INFO message=stream providerID=x small=false agent=build"] * 3):
        transcript.take_stderr(LOG + line)
    if told:
        transcript.take_stderr(FAILED % b"out of order")
    assert not transcript.is_hopeless
    transcript.take_stderr(LOG + b"INFO message=stream providerID=x small=false agent=build")
    assert transcript.is_hopeless
    said = "out of order" if told else "the stream was cut off"
    assert transcript.failure == f"{said} (its service failed 3 times)"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (b'error.error.message="be patient" error.error.type=server_error', "be patient"),
        (b'error.error.message="be patient"', "be patient"),
        (b"error.error.type=server_error", "server_error"),
    ],
)
def test_an_error_in_a_stream_is_told(error: bytes, told: str) -> None:
    transcript = OpencodeTranscript()
    for _ in range(3):
        transcript.take_stderr(LOG + b'ERROR message="stream error" providerID=x small=false agent=build ' + error)
    assert transcript.failure == f"{told} (its service failed 3 times)"


def test_answers_without_an_end_are_given_up() -> None:
    transcript = OpencodeTranscript()
    for _ in range(3):  # tools were called: these answers had all that was needed of them
        transcript.take_event({"type": "tool_use", "part": {"tool": "write", "callID": "call_0"}})
        transcript.take_event(finish("unknown"))
    assert not transcript.is_hopeless
    transcript.take_event(finish("unknown"))
    transcript.take_event(finish("unknown"))
    assert (transcript.is_hopeless, transcript.completed) == (True, False)
    assert transcript.failure == "the stream ended before the answer was over (its service failed 3 times)"


def test_steps_that_go_on_are_no_failures() -> None:
    transcript = OpencodeTranscript()
    for _ in range(9):
        transcript.take_stderr(LOG + b"INFO message=loop step=1")
        transcript.take_stderr(LOG + b"INFO message=stream providerID=x small=false agent=build")
    assert not transcript.is_hopeless


def test_events_of_a_step_may_come_after_failures_of_the_next() -> None:
    transcript = OpencodeTranscript()
    transcript.take_stderr(LOG + b"INFO message=loop step=1")
    for _ in range(3):
        transcript.take_stderr(FAILED % b"out of order")
        transcript.take_event(finish("tool-calls"))
    assert transcript.is_hopeless


def test_side_requests_that_fail_do_not_count() -> None:
    transcript = OpencodeTranscript()
    for _ in range(5):
        transcript.take_stderr((FAILED % b"out of order").replace(b"small=false", b"small=true"))
    assert not transcript.is_hopeless


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (fail("APIError", message="Overloaded", statusCode=529), "unavailable", "status 529: Overloaded; try again*"),
        (fail("APIError", message="bad schema", statusCode=400), "crash", "status 400: bad schema"),
        (fail("ProviderAuthError", message="invalid api key"), "unavailable", "invalid api key; check the key in*"),
        (fail("MessageOutputLengthError"), "crash", "MessageOutputLengthError"),
        ({"type": "error"}, "crash", "opencode said that its turn failed"),
    ],
)
def test_errors_are_told(error: dict[str, Any], status: str, reason: str) -> None:
    proposal = judge_lines(AGENT, finish("tool-calls"), error)
    assert proposal.status == status
    assert proposal.reason.startswith(reason.rstrip("*")) if reason.endswith("*") else proposal.reason == reason


def test_an_error_that_refers_to_the_log_is_looked_up_there() -> None:
    said = fail("UnknownError", message="Unexpected server error. Check server logs for details.")
    log = LOG + b'ERROR message=failed error="ProviderModelNotFoundError: Model not found: x/y." stack="a\\nb"\n'
    proposal = judge_lines(AGENT, said, stderr=LOG + b"INFO message=init\n" + log, model="x/y")
    assert proposal.status == "unavailable"
    assert proposal.reason == "ProviderModelNotFoundError: Model not found: x/y; check the model 'x/y'"


def test_no_end_of_the_turn_is_a_crash() -> None:
    told = "opencode ended with exit code 1 before its turn was over: "
    assert judge_stream(AGENT, "bad-flag", returncode=1).reason == f"{told}it does not understand its args"
    assert judge_lines(AGENT, stderr=LOG + b"INFO message=init\n").reason == f"{told}it said nothing"
    assert judge_lines(AGENT, stderr=b"EACCES: mkdir\n").reason == f"{told}EACCES: mkdir"
    assert judge_lines(AGENT, finish("tool-calls"), returncode=0).status == "crash"  # what it asked for was refused


def test_a_command_in_the_log_is_one_call() -> None:
    transcript = read_stream(AGENT, "tool-hangs")
    assert transcript.tool_calls == 1
    transcript.take_event({"type": "tool_use", "part": {"tool": "bash", "callID": "call_0_0"}})
    assert transcript.tool_calls == 1
    assert transcript.tell_state() == "the model was silent"


def test_a_denied_patch_names_its_files() -> None:
    patch = "*** Begin Patch\n*** Update File: a.md\n@@\n-x\n+y\n*** Add File: ../b.md\n+x\n*** End Patch"
    state = {"status": "error", "input": {"patchText": patch}, "error": "The user has specified a rule which prevents"}
    used = {"type": "tool_use", "part": {"tool": "apply_patch", "callID": "a", "state": state}}
    proposal = judge_lines(AGENT, used, finish("stop"), returncode=0)
    assert proposal.reason == "its edits were denied: apply_patch of a.md, ../b.md is not allowed"


def test_what_is_not_understood_is_passed_over() -> None:
    proposal = judge_lines(
        AGENT,
        "no JSON",
        "[1, 2]",
        {"type": 7},
        {"type": "text", "part": {"text": ["no text"]}},
        {"type": "tool_use", "part": "none"},
        {"type": "tool_use", "part": {"tool": "edit", "callID": "a", "state": {"error": 7, "input": []}}},
        finish("stop", tokens={"input": "many", "output": -1, "cache": 3}, cost=True),
        returncode=0,
        stderr=b"\xff\xfe\nlevel=ERROR error=\n",
    )
    assert proposal == Proposal(status="completed", tool_calls=2)
    transcript = OpencodeTranscript()
    transcript.take_stderr(b'\xff level=ERROR message="stream error" providerID=x small=false error.error="unfinished')
    assert transcript.retry == '"unfinished'
