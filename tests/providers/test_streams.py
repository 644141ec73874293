"""What is made of the streams of every agent, recorded from the real programs against a scripted server.

What only one agent says, and how, is in the file ``test_<agent>_events.py`` of each.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pytest_metaharness.backends import claude, codex, gemini, opencode, pi
from pytest_metaharness.backends.agents import Agent
from pytest_metaharness.core.model import Proposal, Tokens

from .recorded import judge_lines, judge_stream

AGENTS: Mapping[str, Agent] = {module.AGENT.name: module.AGENT for module in (codex, gemini, opencode, pi, claude)}

SUCCESS: Mapping[str, Proposal] = {
    "codex": Proposal(
        status="completed", summary="All done.", tokens=Tokens(input=300, cached=60, output=30), tool_calls=2
    ),
    "gemini": Proposal(
        status="completed",
        summary="All done. Really.",
        tokens=Tokens(input=200, cached=40, output=26),  # thoughts are in the total only
        tool_calls=2,
    ),
    "opencode": Proposal(
        status="completed",
        summary="All done. Really.",
        tokens=Tokens(input=300, cached=60, output=30),
        cost_usd=0.00075,
        tool_calls=3,
    ),
    "pi": Proposal(
        status="completed",
        summary="All done. Really.",
        tokens=Tokens(input=300, cached=60, output=30),
        cost_usd=0.00213,
        tool_calls=3,
    ),
    "claude": Proposal(
        status="completed",
        summary="All done. Really.",
        tokens=Tokens(input=360, cached=60, output=30),
        cost_usd=0.001368,
        tool_calls=3,
    ),
}
DENIED = [  # agent, stream, what it said at last, the reason; a star stands for anything
    ("codex", "denied-patch", "I could not write.", "writing outside of the project"),
    ("codex", "denied-command", "I could not write.", "codex's own sandbox refused: read_only_file_system"),
    (
        "codex",
        "denied-quietly",
        "I could not write.",
        "a command met '/bin/bash: line 1: /etc/x: Read-only file system'",
    ),
    (
        "codex",
        "no-namespaces",
        "I could not write.",
        "codex's own sandbox cannot start here (bwrap: No permissions to create new namespace*",
    ),
    (
        "gemini",
        "denied-outside",
        "All done. Really.",
        'Path not in workspace: Attempted path "/outside.txt" resolves outside*',
    ),
    (
        "gemini",
        "denied-build",
        "All done. Really.",
        "*Modifying build configuration files requires explicit user confirmation",
    ),
    ("gemini", "denied-shell", "All done. Really.", "gemini has no shell where our jail is not in use"),
    (
        "gemini",
        "denied-by-jail",
        "All done. Really.",
        "/usr/bin/bash: line 4: /usr/outside.txt: Read-only file system",
    ),
    ("opencode", "denied", "I could not write.", "write of ../outside.txt is not allowed"),
    ("opencode", "no-shell", "I could not write.", "opencode has no shell where our jail is not in use"),
    (
        "opencode",
        "denied-by-jail",
        "I could not write.",
        "bash met '/usr/bin/bash: line 1: /usr/outside.txt: Read-only file system'",
    ),
    ("pi", "denied", "I could not write.", "write: ../outside.txt is outside the workspace"),
    ("pi", "no-shell", "I could not write.", "pi has no shell where our jail is not in use"),
    (
        "pi",
        "denied-by-jail",
        "I could not write.",
        "bash met '/bin/bash: line 1: /usr/outside.txt: Read-only file system'",
    ),
    ("claude", "denied-outside", "All done. Really.", "/outside.txt is outside of the workspace"),
    ("claude", "denied-shell", "All done. Really.", "claude has no shell where our jail is not in use"),
    (
        "claude",
        "denied-by-jail",
        "All done. Really.",
        "/bin/bash: line 2: /usr/outside.txt: Read-only file system",
    ),
]


@pytest.fixture(params=AGENTS)
def agent(request: pytest.FixtureRequest) -> Agent:
    name: str = request.param
    return AGENTS[name]


def test_success_gives_summary_tokens_cost_and_tool_calls(agent: Agent) -> None:
    wanted = SUCCESS[agent.name]
    proposal = judge_stream(agent, "success", returncode=0)
    assert proposal.cost_usd == (wanted.cost_usd and pytest.approx(wanted.cost_usd))
    assert (proposal.status, proposal.reason, proposal.summary) == ("completed", "", wanted.summary)
    assert (proposal.tokens, proposal.tool_calls) == (wanted.tokens, wanted.tool_calls)


def test_a_turn_without_tools_is_a_success(agent: Agent) -> None:
    proposal = judge_stream(agent, "nochange", returncode=0)
    assert (proposal.status, proposal.reason, proposal.tool_calls) == ("completed", "", 0)
    assert proposal.summary == "Nothing to change."


def test_the_exit_code_decides_nothing(agent: Agent) -> None:
    assert judge_stream(agent, "success", returncode=1).status == "completed"
    assert judge_stream(agent, "http401", returncode=0).status == "unavailable"


@pytest.mark.parametrize("returncode", [-9, 137, -15, 143])
def test_success_of_a_program_that_was_killed_is_a_crash(agent: Agent, returncode: int) -> None:
    proposal = judge_stream(agent, "success", returncode=returncode)
    told = f"{agent.name} was killed by signal {abs(returncode) % 128} after its turn was over"
    assert (proposal.status, proposal.reason) == ("crash", told)


def test_silence_is_told(agent: Agent) -> None:
    told = f"{agent.name} ended with exit code 1 before its turn was over: it said nothing"
    proposal = judge_lines(agent)
    assert (proposal.status, proposal.reason) == ("crash", told)


@pytest.mark.parametrize(
    ("case", "state"),
    [
        ("timeout", "the model was silent"),
        ("tool-hangs", "its command `sleep 1000` had been running for 0 s"),
        ("bad-flag", "it said nothing"),
        ("success", "its turn was over, but it did not end"),
    ],
)
def test_timeout_tells_what_it_was_doing(agent: Agent, case: str, state: str) -> None:
    proposal = judge_stream(agent, case, returncode=None)
    assert (proposal.status, proposal.reason) == ("timeout", f"no answer within 5 s: {state}")


@pytest.mark.parametrize(("name", "case", "summary", "denial"), DENIED)
def test_denied_edits_are_told_apart(name: str, case: str, summary: str, denial: str) -> None:
    proposal = judge_stream(AGENTS[name], case, returncode=0)
    assert (proposal.status, proposal.summary) == ("completed", summary)
    told = proposal.reason.removeprefix("its edits were denied: ")
    start, star, end = denial.partition("*")
    assert told != proposal.reason
    assert (told.startswith(start) and told.endswith(end)) if star else told == denial
