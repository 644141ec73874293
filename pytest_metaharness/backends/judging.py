"""What came of an agent's run, the same for all agents: a status, and a reason of one line."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

from ..core.model import Backend, Proposal
from .events import cut_line, find_refusal, strip_escapes

if TYPE_CHECKING:
    from ..core.model import ProposalStatus
    from ..core.processes.process import Completed
    from .agents import Agent
    from .transcript import Transcript

_DEADLY = frozenset(
    {
        signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS,
        signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, signal.SIGTERM,
    }
)  # fmt: skip


def judge(
    agent: Agent,
    transcript: Transcript,
    completed: Completed,
    *,
    backend: Backend,
    source: str,
    timeout: float = 0.0,
) -> Proposal:
    """Say what came of a run that had *timeout* seconds and took its credentials from *source*.

    Success is a terminal event and an end of its own. The exit code decides nothing: agents end with 0 also when they
    were kept from writing, and some when the model failed.
    """
    stderr = strip_escapes(completed.stderr.text())

    def give(status: ProposalStatus, reason: str) -> Proposal:
        return Proposal(
            status=status,
            reason=" ".join(reason.split()),
            summary=cut_line(transcript.message),
            tokens=transcript.tokens,
            cost_usd=transcript.cost_usd,
            tool_calls=transcript.tool_calls,
        )

    def refuse(message: str, told: str) -> Proposal:
        kind = find_refusal(message)
        if kind is None:
            return give("crash", told)
        return give("unavailable", f"{told.rstrip('.')}; {_advise(kind, agent, backend, source)}")

    if completed.timed_out:
        return give("timeout", f"no answer within {timeout:g} s: {transcript.tell_state()}")
    is_killed = completed.returncode is None or find_signal(completed.returncode) is not None
    if transcript.completed and is_killed:
        return give("crash", f"{agent.name} {_tell_end(completed)} after its turn was over")
    if transcript.completed:
        denial = transcript.find_denial(stderr)
        return give("completed", f"its edits were denied: {denial}" if denial else "")
    if failure := transcript.find_failure(stderr):
        return refuse(failure, cut_line(failure))
    complaint = transcript.find_complaint(stderr)
    told = f"{agent.name} {_tell_end(completed)} before its turn was over: {complaint}"
    return give("crash", told) if is_killed else refuse(complaint, told)


def find_signal(returncode: int) -> int | None:
    """Find the signal that ended a program; in the jail, and from agents that catch it, that is 128 + the signal."""
    number = -returncode if returncode < 0 else returncode - 128
    return number if returncode < 0 or number in _DEADLY else None


def _tell_end(completed: Completed) -> str:
    if completed.returncode is None:
        return "was killed"
    number = find_signal(completed.returncode)
    return f"ended with exit code {completed.returncode}" if number is None else f"was killed by signal {number}"


def _hide_password(url: str) -> str:
    return re.sub(r"(?<=://)[^/@]*@", "", url)


def _advise(kind: str, agent: Agent, backend: Backend, source: str) -> str:
    where = "the network" if source else "the server"  # one that wants no credentials is the user's own
    where = f"base_url {_hide_password(backend.base_url)}" if backend.base_url else where
    is_login = agent.login is not None and source == agent.login.command
    if not source and kind in {"login", "forbidden"}:
        return f"check {where}"
    return {
        "login": f"log in again with `{source}`" if is_login else f"check the key in {source}",
        "forbidden": f"what {source} stands for may not use this: check its project, model and region",
        "model": f"check the model '{backend.model}'" if backend.model else "set a model that exists",
        "missing": f"check {where} and the model" if backend.base_url else "check the model",
        "rate": "wait a while, or run fewer at once (-n)",
        "quota": "wait until it is renewed, or use another account",
        "outdated": f"update {agent.name} with `{agent.install}`",
        "busy": "try again later",
        "network": f"check {where}",
    }[kind]
