"""Ask a backend for one proposal: with a brief, from a seat of its own, and again while its service refuses."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from .brief import BRIEF, PROMPT, describe_environment, make_brief
from .model import Backend, Candidate, Proposal, Target, add_tokens
from .once import compute_once
from .plan import Hooks, Place, Plan
from .processes.alarm import Alarm
from .processes.sandbox import Sandbox
from .proposals import ProposalRequest, propose
from .redaction import Redactor
from .runfolder import RunFolder
from .seats import take_seat
from .store.snapshot import Snapshot
from .worktrees import STATE, WORKSPACE, WorkTrees

LONGEST_REASON = 500
"""Characters of what a backend says that are kept."""

FIRST_PAUSE_S, GROWTH = 2.0, 4.0
"""The wait before the second call, and by what each following one is longer, with a quarter of chance in it."""


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """What the proposals of one trial have in common; *hidden* is what no backend may see."""

    plan: Plan
    backend: Backend
    place: Place
    folder: RunFolder
    trees: WorkTrees
    sandbox: Sandbox
    redactor: Redactor
    hooks: Hooks
    sealed: Snapshot
    hidden: tuple[Path, ...]

    @property
    def target(self) -> Target:
        """What is optimized."""
        return self.plan.target

    def ask(
        self, candidate: str, parent: Candidate, *, below: Path, files: Snapshot, candidates: Sequence[Candidate]
    ) -> Proposal:
        """Give the backend's proposal for *candidate*, made in the work trees that are lent at *below*.

        They hold *files*, those of *parent*, whenever the backend is called. A service that cannot be used is tried
        again as often as the plan says and the proposal's time allows.
        """
        logs = self.folder.open_candidate(candidate)
        environment = compute_once(self.place.session / "environment.json", tuple[str, ...], describe_environment).value
        brief = make_brief(
            self.target,
            parent=parent,
            candidates=candidates,
            run=self.folder.path,
            sealed=self.sealed,
            environment=environment,
        )
        (logs / "brief.md").write_bytes(brief[BRIEF])
        (logs / "prompt.md").write_text(PROMPT, encoding="utf-8")

        def call(timeout: float) -> Proposal:
            self.trees.workspace.turn_to(files, brief)
            self.trees.workspace.restore()
            self.trees.state.sweep()
            self.trees.state.restore()
            return self._call(candidate, parent, below=below, logs=logs, timeout=timeout)

        if self.backend.parallel is None:
            return self._ask(candidate, parent, call)
        self.folder.log("waiting", candidate=candidate, backend=self.backend.name)
        with take_seat(self.place.session / "seats", self.backend.name, self.backend.parallel):
            return self._ask(candidate, parent, call)

    def _ask(self, candidate: str, parent: Candidate, call: Callable[[float], Proposal]) -> Proposal:
        self.folder.log("proposal-started", candidate=candidate, parent=parent.id)
        deadline = time.monotonic() + self.plan.timeout
        pause = FIRST_PAUSE_S
        calls = [call(self.plan.timeout)]
        while calls[-1].status == "unavailable" and len(calls) <= self.plan.retries:
            wait = pause * random.uniform(0.75, 1.25)  # noqa: S311 - so that workers do not all come back at once
            if time.monotonic() + wait >= deadline:
                break
            self.folder.log("proposal-refused", candidate=candidate, reason=calls[-1].reason, retry_in_s=round(wait, 1))
            time.sleep(wait)
            pause *= GROWTH
            self.folder.log("proposal-repeated", candidate=candidate)
            calls.append(call(deadline - time.monotonic()))
        proposal = _sum_up(calls)
        self.folder.log("proposal-ended", candidate=candidate, status=proposal.status, reason=proposal.reason)
        return proposal

    def _call(self, candidate: str, parent: Candidate, *, below: Path, logs: Path, timeout: float) -> Proposal:
        def make_request(deadline: float, clock: Alarm) -> ProposalRequest:
            return ProposalRequest(
                target=self.target,
                parent=parent,
                candidate=candidate,
                workspace=below / WORKSPACE,
                prompt=PROMPT,
                backend=self.backend,
                timeout=timeout,
                log_dir=logs,
                state=below / STATE,
                _sandbox=self.sandbox,
                _hidden=self.hidden,
                _readable=self.place.readable,
                _redactor=self.redactor,
                _deadline=deadline,
                _clock=clock,
            )

        try:
            given = propose(self.hooks.propose, timeout=timeout, make_request=make_request)
        finally:
            self.redactor.folder(logs)  # what a provider wrote there by itself
        return msgspec.structs.replace(
            given,
            reason=self.redactor.text(given.reason)[:LONGEST_REASON],
            summary=self.redactor.text(given.summary)[:LONGEST_REASON],
        )


def _sum_up(calls: Sequence[Proposal]) -> Proposal:
    """Give the last of *calls*, with what all of them took."""
    if len(calls) == 1:
        return calls[0]
    last = calls[-1]
    costs = [call.cost_usd for call in calls if call.cost_usd is not None]
    counts = [call.tool_calls for call in calls if call.tool_calls is not None]
    reason = f"{last.reason} (tried {len(calls)} times)" if last.status == "unavailable" else last.reason
    return msgspec.structs.replace(
        last,
        reason=reason,
        tokens=add_tokens(call.tokens for call in calls),
        cost_usd=sum(costs) if costs else None,
        tool_calls=sum(counts) if counts else None,
    )
