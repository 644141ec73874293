"""What a trial is given: its plan, its place on disk, and the plugins that answer for it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from .model import Backend, Candidate, Check, CheckResult, Gate, Run, Setting, Target
from .proposals import ProposalRequest


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One planned search. *backend* is ``None`` when only the baseline is measured.

    *timeout* is in seconds; *retries* is how often a proposal is tried again while its service is unavailable.
    """

    nodeid: str
    target: Target
    backend: Backend | None
    label: str
    trial: int
    budget: int
    timeout: float
    retries: int
    gate: Gate
    settings: Mapping[str, Setting]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The session's folder, how the report spells it, what a jail must not show, and what it must not hide."""

    session: Path
    shown_as: str
    hidden: tuple[Path, ...]
    readable: tuple[Path, ...]


class Hooks(Protocol):
    """What plugins answer; bound to the item's own conftest files."""

    def propose(self, request: ProposalRequest) -> object:
        """Ask for a proposal; ``None`` when nobody answers."""

    def check(self, check: Check, workspace: Path) -> object:
        """Ask for a ``use:`` check; ``None`` when nobody answers."""

    def objective(self, target: Target, results: Mapping[str, CheckResult]) -> object:
        """Ask for the objective; ``None`` for the weighted mean."""

    def candidate(self, run: Run, candidate: Candidate) -> None:
        """Tell of a finished candidate."""

    def warn(self, message: str) -> None:
        """Show the user a warning."""


def name_trial(plan: Plan) -> str:
    """Name the trial's folder and branches: readable, and unique by a hash of the node id."""
    is_only = plan.nodeid.removesuffix("]").endswith(plan.label)
    title = f"{plan.target.name}-{plan.label}{'' if is_only else f'-t{plan.trial}'}"
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", title).strip("-")
    return f"{readable[:60]}-{hashlib.sha256(plan.nodeid.encode('utf-8', 'replace')).hexdigest()[:8]}"
