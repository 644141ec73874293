"""The verdict on a trial: what its gate and the search itself ask for, and what of it does not hold."""

from __future__ import annotations

from .model import ANSWERED, TOLERANCE, Candidate, Gate, Run, Verdict


def judge_trial(run: Run, gate: Gate) -> Verdict:
    """Give the verdict on a finished *run*; all but ``baseline`` count only where a search took place.

    None takes place where nothing is left to gain: a baseline of 1.0 needs no proposal.
    """
    if run.status != "completed":
        return Verdict(passed=False, failures=(run.reason or run.status,))
    searched = run.budget > 0 and not is_perfect(run.candidates[0])
    failures = [*_judge_baseline(run, searched=searched), *_judge_backend(run)]
    failures += _compare("baseline", run.baseline_objective, gate.baseline)
    if searched:
        failures += _compare("best", run.best_objective, gate.best)
        failures += _compare("gain", run.gain, gate.gain)
        failures += _judge_checks(run, gate)
    return Verdict(passed=not failures, failures=tuple(failures))


def is_perfect(candidate: Candidate) -> bool:
    """Tell whether nothing is left to gain."""
    return candidate.objective is not None and candidate.objective >= 1 - TOLERANCE


def format_objective(value: float | None) -> str:
    """Spell an objective as the summary shows it."""
    return "invalid" if value is None else f"{value:.3f}"


def _judge_baseline(run: Run, *, searched: bool) -> list[str]:
    if run.baseline_objective is not None or (searched and run.best_objective is not None):
        return []
    return [f"the baseline is invalid: {run.candidates[0].reason}"]


def _compare(name: str, value: float | None, least: float | None) -> list[str]:
    if least is None or (name == "gain" and value is None):
        return []  # against an invalid baseline there is no gain to speak of
    if value is not None and value >= least - TOLERANCE:
        return []
    return [f"{name} {format_objective(value)} < {least:g}"]


def _judge_checks(run: Run, gate: Gate) -> list[str]:
    best = next((candidate for candidate in run.candidates if candidate.id == run.best_candidate), None)
    values = {check.id: check.value for check in best.checks} if best else {}
    return [
        f"check {name} has {values.get(name, 0.0):.3f} < 1 in the best candidate"
        for name in gate.checks
        if values.get(name, 0.0) < 1 - TOLERANCE
    ]


def _judge_backend(run: Run) -> list[str]:
    tried = run.candidates[1:]
    if not tried or any(candidate.outcome in ANSWERED for candidate in tried):
        return []
    return [f"no proposal could be judged: {tried[-1].outcome}: {tried[-1].reason}"]
