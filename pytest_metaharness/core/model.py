"""The words of this package as values: what is read from a target, and what a run leaves behind.

All values are immutable. Objectives and check values are 0 to 1, higher is better; times are seconds, costs USD.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

Outcome = Literal[
    "baseline", "keep", "discard", "no-change", "invalid", "scope-violation", "timeout", "crash", "unavailable"
]
ProposalStatus = Literal["completed", "timeout", "crash", "unavailable"]
RunStatus = Literal["running", "completed", "interrupted", "failed", "lost"]
CheckKind = Literal["contains", "run", "score", "use"]

SCORED: frozenset[Outcome] = frozenset({"baseline", "keep", "discard"})
"""Outcomes of candidates that have an objective."""

ANSWERED: frozenset[Outcome] = frozenset({"keep", "discard", "no-change", "invalid", "scope-violation"})
"""Outcomes that show a backend at work; a search in which none occurred measured nothing and fails."""

TOLERANCE = 1e-9
"""Two objectives closer than this are equal."""


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


# ---------------------------------------------------------------------------------------------- what is asked for


class Contains(_Value, frozen=True):
    """Conditions on the text of one file of the candidate; all given ones must hold."""

    path: str
    all: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    none: tuple[str, ...] = ()
    regex: str | None = None


class Check(_Value, frozen=True):
    """One weighted measurement of a workspace. Exactly one of *contains*, *run*, *score*, *use* is given."""

    id: str
    contains: Contains | None = None
    run: str | None = None
    exit_code: int = 0
    score: str | None = None
    use: str | None = None
    with_: Mapping[str, Any] = {}
    weight: float = 1.0
    timeout: float = 60.0
    required: bool = False

    @property
    def kind(self) -> CheckKind:
        """The one kind that is given."""
        if self.contains is not None:
            return "contains"
        if self.run is not None:
            return "run"
        return "score" if self.score is not None else "use"


class Gate(_Value, frozen=True):
    """Thresholds that pass or fail a trial; ``None`` asks for nothing."""

    baseline: float | None = None
    best: float | None = None
    gain: float | None = None


class Backend(_Value, frozen=True):
    """A named configuration of a provider.

    *env* maps names to values; ``None`` passes the variable of that name through. *api_key* is the **name** of the
    variable that holds the key. *options* are the provider's own keys.
    """

    name: str
    provider: str
    model: str | None = None
    executable: str | None = None
    base_url: str | None = None
    api_key: str | None = None
    api: Literal["chat", "responses", "anthropic"] | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str | None] = {}
    timeout: float | None = None
    options: Mapping[str, Any] = {}


class Target(_Value, frozen=True):
    """What is optimized. Relative paths are beside *file*."""

    name: str
    file: Path
    goal: str
    checks: tuple[Check, ...]
    constraints: tuple[str, ...] = ()
    baseline: str = "baseline"
    editable: tuple[str, ...] | None = None
    required: tuple[str, ...] = ()
    sealed: str | None = None
    transient: tuple[str, ...] = ()
    budget: int | None = None
    timeout: float | None = None
    gate: Gate = Gate()
    backends: Mapping[str, Backend] = {}
    marks: tuple[str, ...] = ()
    sandbox_read: tuple[str, ...] = ()

    @property
    def baseline_folder(self) -> Path:
        """The folder whose copy is candidate ``c0000``."""
        return self.file.parent / self.baseline

    @property
    def sealed_folder(self) -> Path | None:
        """The folder laid over a checkout for its checks."""
        return self.file.parent / self.sealed if self.sealed else None


# ------------------------------------------------------------------------------------------------- what came of it


class Tokens(_Value, frozen=True):
    """Tokens used; *input* includes *cached*, *output* includes reasoning."""

    input: int = 0
    cached: int = 0
    output: int = 0


class Proposal(_Value, frozen=True):
    """What a backend says about one call. What it changed is read from the workspace, never from here."""

    status: ProposalStatus
    reason: str = ""
    summary: str = ""
    tokens: Tokens | None = None
    cost_usd: float | None = None
    tool_calls: int | None = None


class CheckResult(_Value, frozen=True):
    """The measurement of one check; *feedback* tells the next proposal what to do about it."""

    value: float
    feedback: str = ""
    metrics: Mapping[str, float] = {}


class CheckRecord(_Value, frozen=True):
    """A check's result as the report has it; *duration_s* is the check's command alone."""

    id: str
    value: float
    weight: float
    duration_s: float
    feedback: str = ""
    metrics: Mapping[str, float] = {}
    reused: bool = False


class Candidate(_Value, frozen=True):
    """A snapshot of a workspace with its measurements; *objective* is ``None`` when it could not be measured.

    *changed_files* are POSIX paths against the parent, sorted.
    """

    id: str
    parent: str | None
    outcome: Outcome
    reason: str
    objective: float | None = None
    duration_s: float = 0.0
    changed_files: tuple[str, ...] = ()
    checks: tuple[CheckRecord, ...] = ()
    cost_usd: float | None = None
    tokens: Tokens | None = None
    tool_calls: int | None = None


class Setting(_Value, frozen=True):
    """The value a trial used, and where it came from: the option, key or file that set it."""

    value: bool | int | float | str | None
    origin: str = msgspec.field(name="from")


class Verdict(_Value, frozen=True):
    """Whether the trial's item passed, and each reason why not."""

    passed: bool
    failures: tuple[str, ...] = ()


class Run(_Value, frozen=True):
    """The record of one executed trial: the contents of ``run.json`` and of ``runs`` in the report."""

    nodeid: str
    target: str
    backend: str
    provider: str | None
    model: str | None
    trial: int
    budget: int
    status: RunStatus
    reason: str = ""
    baseline: float | None = None
    best: float | None = None
    gain: float | None = None
    improved: bool = False
    best_candidate: str | None = None
    gate: Verdict = Verdict(passed=False)
    proposals: int = 0
    duration_s: float = 0.0
    cost_usd: float | None = None
    tokens: Tokens | None = None
    changed_files: tuple[str, ...] = ()
    outcomes: Mapping[str, int] = {}
    settings: Mapping[str, Setting] = {}
    directory: str = ""
    patch: str | None = None
    candidates: tuple[Candidate, ...] = ()
