"""Judges what agents printed when they were recorded, and what a test makes up in the same manner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_metaharness.backends.judging import judge
from pytest_metaharness.core.model import Backend, Proposal
from pytest_metaharness.core.processes.process import Captured, Completed

if TYPE_CHECKING:
    from pytest_metaharness.backends.agents import Agent
    from pytest_metaharness.backends.transcript import Transcript

STREAMS = Path(__file__).parent / "streams"


def complete(*, stderr: bytes = b"", returncode: int | None = 0, timed_out: bool = False) -> Completed:
    nothing = Captured(head=b"", tail=b"", dropped=0)
    said = Captured(head=stderr, tail=b"", dropped=0)
    return Completed(
        argv=("agent",), returncode=returncode, timed_out=timed_out, stdout=nothing, stderr=said, duration_s=1.0
    )


def read_stream(agent: Agent, case: str) -> Transcript:
    """Take in what was recorded in ``streams/<agent>-<case>``: standard error, then the events."""
    transcript = agent.transcript()
    for line in (STREAMS / f"{agent.name}-{case}.stderr").read_bytes().splitlines():
        transcript.take_stderr(line)
    for line in (STREAMS / f"{agent.name}-{case}.jsonl").read_bytes().splitlines():
        transcript.take(line)
    return transcript


def judge_stream(
    agent: Agent, case: str, *, returncode: int | None, source: str = "THE_KEY", **backend: Any
) -> Proposal:
    """Judge a recorded run; without a *returncode* it ran into its timeout of 5 s."""
    stderr = (STREAMS / f"{agent.name}-{case}.stderr").read_bytes()
    completed = complete(stderr=stderr, returncode=returncode, timed_out=returncode is None)
    made = Backend(name=agent.name, provider=agent.name, **backend)
    return judge(agent, read_stream(agent, case), completed, backend=made, timeout=5, source=source)


def judge_lines(
    agent: Agent, *lines: str | dict[str, Any], returncode: int = 1, stderr: bytes = b"", **backend: Any
) -> Proposal:
    """Judge a run that printed *lines*."""
    transcript = agent.transcript()
    for line in lines:
        transcript.take((line if isinstance(line, str) else json.dumps(line)).encode())
    made = Backend(name=agent.name, provider=agent.name, **backend)
    completed = complete(stderr=stderr, returncode=returncode)
    return judge(agent, transcript, completed, backend=made, source="THE_KEY")
