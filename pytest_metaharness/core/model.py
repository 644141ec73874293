"""The words of this package as values: what is read from a target, and what a run leaves behind.

All values are immutable. Objectives and check values are 0 to 1, higher is better; times are seconds, costs USD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

Outcome = Literal[
    "baseline", "keep", "discard", "no-change", "invalid", "scope-violation", "timeout", "crash", "unavailable"
]
ProposalStatus = Literal["completed", "timeout", "crash", "unavailable"]
RunStatus = Literal["running", "completed", "interrupted", "failed", "lost"]
CheckKind = Literal["contains", "run", "score", "pytest", "use", "call"]
Feedback = Literal["full", "verdict", "none"]

SCORED: frozenset[Outcome] = frozenset({"baseline", "keep", "discard"})
"""Outcomes of candidates that have an objective."""

ANSWERED: frozenset[Outcome] = frozenset({"keep", "discard", "no-change", "invalid", "scope-violation"})
"""Outcomes that show a backend at work; a search in which none occurred measured nothing and fails."""

TOLERANCE = 1e-9
"""Two objectives closer than this are equal."""


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


# ---------------------------------------------------------------------------------------------- what is asked for


class _Asked(_Value, frozen=True, kw_only=True):
    """A value that users write in Python too: their lists are kept as tuples."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if isinstance(given := getattr(self, name), list):
                msgspec.structs.force_setattr(self, name, tuple(given))


class Contains(_Asked, frozen=True, kw_only=True):
    """Conditions on the text of one file of the candidate; all given ones must hold."""

    path: str
    all: Sequence[str] = ()
    any: Sequence[str] = ()
    none: Sequence[str] = ()
    regex: str | None = None


class Check(_Asked, frozen=True, kw_only=True):
    """One weighted measurement of a workspace.

    Exactly one of *contains*, *run*, *score*, *pytest*, *use* and, in Python targets, *call* is given; *call* gets the
    checkout's path and gives a number 0 to 1 or a :class:`CheckResult`. *feedback* is what the backend learns of it:
    ``None`` is ``full``, but ``verdict`` for a check that uses sealed files. *env* names variables to pass.
    """

    id: str
    contains: Contains | None = None
    run: str | None = None
    exit_code: int = 0
    score: str | None = None
    pytest: str | None = None
    use: str | None = None
    call: Callable[[Path], Any] | None = None
    with_: Mapping[str, Any] = {}
    weight: float = 1.0
    timeout: float = 60.0
    required: bool = False
    fresh: bool = False
    network: bool = False
    env: Sequence[str] = ()
    feedback: Feedback | None = None
    volatile: bool = False
    repeat: int = 1

    @property
    def kind(self) -> CheckKind:
        """The one kind that is given."""
        kinds: tuple[CheckKind, ...] = ("contains", "run", "score", "pytest", "use", "call")
        return next(kind for kind in kinds if getattr(self, kind) is not None)

    @property
    def is_reusable(self) -> bool:
        """Whether equal files may be taken to give an equal result, so that it need not be measured again."""
        return not (self.volatile or self.repeat > 1 or self.kind == "call")


class Gate(_Asked, frozen=True, kw_only=True):
    """Thresholds that pass or fail a trial; ``None`` asks for nothing. *checks* have value 1 in the best candidate."""

    baseline: float | None = None
    best: float | None = None
    gain: float | None = None
    checks: Sequence[str] = ()


class GitBaseline(_Asked, frozen=True, kw_only=True):
    """The tracked files of the enclosing repository at revision *git*, below its folder *path*."""

    git: str
    path: str = "."


class Limits(_Asked, frozen=True, kw_only=True):
    """The most that a candidate may have; ``None`` is the default, or what the baseline has where that is more."""

    file_mb: float | None = None
    total_mb: float | None = None
    files: int | None = None


class Backend(_Asked, frozen=True, kw_only=True):
    """A named configuration of a provider.

    *env* maps names to values; ``None`` passes the variable of that name through. *api_key* is the **name** of the
    variable that holds the key. *parallel* is how many of its proposals may run at once in a session; ``None``: any.
    *options* are the provider's own keys.
    """

    name: str
    provider: str
    model: str | None = None
    executable: str | None = None
    base_url: str | None = None
    api_key: str | None = None
    api: Literal["chat", "responses", "anthropic"] | None = None
    args: Sequence[str] = ()
    env: Mapping[str, str | None] = {}
    timeout: float | None = None
    parallel: int | None = None
    options: Mapping[str, Any] = {}


class Target(_Asked, frozen=True, kw_only=True):
    """What is optimized. Relative paths are beside *file*.

    In Python targets *name* and *file* are those of the test function and never given, and the absolute path of a
    folder may be, where it is made by another fixture.
    """

    goal: str
    checks: Sequence[Check]
    name: str = ""
    file: Path = Path()
    constraints: Sequence[str] = ()
    baseline: str | Path | GitBaseline = "baseline"
    editable: Sequence[str] | None = None
    required: Sequence[str] = ()
    sealed: str | Path | None = None
    transient: Sequence[str] = ()
    limits: Limits = Limits()
    budget: int | None = None
    timeout: float | None = None
    gate: Gate = Gate()
    backends: Mapping[str, Backend] = {}
    marks: Sequence[str] = ()
    sandbox_read: Sequence[str] = ()

    @property
    def baseline_folder(self) -> Path | None:
        """The folder whose copy is candidate ``c0000``; ``None`` when that comes from git."""
        return None if isinstance(self.baseline, GitBaseline) else self.file.parent / self.baseline

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


def add_tokens(many: Iterable[Tokens | None]) -> Tokens | None:
    """Add up those that are known."""
    known = [tokens for tokens in many if tokens is not None]
    if not known:
        return None
    return Tokens(
        input=sum(tokens.input for tokens in known),
        cached=sum(tokens.cached for tokens in known),
        output=sum(tokens.output for tokens in known),
    )


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
    baseline_objective: float | None = msgspec.field(default=None, name="baseline")
    best_objective: float | None = msgspec.field(default=None, name="best")
    """The record's ``baseline`` and ``best`` are objectives; the properties of these names are the candidates."""
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

    @property
    def baseline(self) -> Candidate:
        """The baseline with its measurements.

        :raises LookupError: it is not measured yet.
        """
        return self._find("c0000")

    @property
    def best(self) -> Candidate:
        """The best candidate, which is the baseline while nothing better was found.

        :raises LookupError: no candidate is measured yet.
        """
        return self._find(self.best_candidate)

    def _find(self, candidate: str | None) -> Candidate:
        for each in self.candidates:
            if each.id == candidate:
                return each
        message = f"{self.nodeid}: no candidate is measured yet"
        raise LookupError(message)
