"""Hill climbing: every proposal starts from the best candidate so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .gate import format_objective, is_perfect
from .model import TOLERANCE, Candidate, Outcome

Attempt = Callable[[str, Candidate], Candidate]
"""Makes the candidate of that id from that parent: proposes, measures, judges. Never raises for a bad proposal."""


def search(baseline: Candidate, *, budget: int, attempt: Attempt) -> Iterator[Candidate]:
    """Give one candidate after the other, at most *budget*; stop early when the best has objective 1.0."""
    best = baseline
    for number in range(1, budget + 1):
        if is_perfect(best):
            return
        candidate = attempt(f"c{number:04}", best)
        if candidate.outcome == "keep":
            best = candidate
        yield candidate


def judge(objective: float, best: Candidate) -> tuple[Outcome, str]:
    """Decide whether a measured candidate replaces *best*, its parent, and say why; a tie does not."""
    now, before = format_objective(objective), format_objective(best.objective)
    if best.objective is None or objective > best.objective + TOLERANCE:
        return "keep", f"{before} -> {now}"
    return "discard", f"{now} is not better than {before} ({best.id})"
