"""Records as text: the summary's lines, a failure's lines, ``report.json`` and the two tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from inspect import cleandoc
from typing import Any, Literal

import msgspec

from .core.gate import format_objective
from .core.model import Candidate, CheckRecord, Run

RUN_COLUMNS = (
    "nodeid", "target", "backend", "provider", "model", "trial", "budget", "status", "baseline", "best", "gain",
    "improved", "gate", "best_candidate", "proposals", "duration_s", "cost_usd", "tokens_input", "tokens_cached",
    "tokens_output", "changed_files", "reason",
)  # fmt: skip
LEDGER_COLUMNS = (
    "nodeid", "candidate", "parent", "outcome", "reason", "objective", "duration_s", "cost_usd", "tokens_input",
    "tokens_output", "tool_calls", "changed_files",
)  # fmt: skip
FEEDBACK_LINES = 6
"""Lines of a check's feedback that a failure shows, from the end."""


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of ``report.json``; *runs* are sorted by node id."""

    schema: Literal[1] = 1
    session: str
    started: str
    duration_s: float
    environment: Mapping[str, Any]
    runs: tuple[Run, ...]


def build_schema() -> dict[str, Any]:
    """Give the JSON Schema (draft 2020-12) of ``report.json``."""
    schema = msgspec.json.schema(Report)
    for definition in schema["$defs"].values():
        definition["description"] = cleandoc(definition["description"])  # as Python 3.13 has it anyway
        definition["required"] = list(definition["properties"])  # a default never keeps a field out of the report
        for field in definition["properties"].values():
            field.pop("default", None)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Report of pytest-metaharness"}
    return {**head, **schema}


# --------------------------------------------------------------------------------------------------------- tables


def write_run_table(runs: Iterable[Run]) -> str:
    """Give ``report.tsv``: a row per run."""
    return _write_table(RUN_COLUMNS, (_run_row(run) for run in runs))


def write_ledger(runs: Iterable[Run]) -> str:
    """Give ``ledger.tsv``: a row per candidate."""
    rows = (_candidate_row(run, candidate) for run in runs for candidate in run.candidates)
    return _write_table(LEDGER_COLUMNS, rows)


def _run_row(run: Run) -> Mapping[str, object]:
    tokens = run.tokens
    return {
        **{name: value for name, value in msgspec.structs.asdict(run).items() if name in RUN_COLUMNS},
        "baseline": run.baseline_objective,
        "best": run.best_objective,
        "gate": "passed" if run.gate.passed else "failed",
        "tokens_input": tokens and tokens.input,
        "tokens_cached": tokens and tokens.cached,
        "tokens_output": tokens and tokens.output,
    }


def _candidate_row(run: Run, candidate: Candidate) -> Mapping[str, object]:
    return {
        **{name: getattr(candidate, name) for name in LEDGER_COLUMNS if hasattr(candidate, name)},
        "nodeid": run.nodeid,
        "candidate": candidate.id,
        "tokens_input": candidate.tokens and candidate.tokens.input,
        "tokens_output": candidate.tokens and candidate.tokens.output,
    }


def _write_table(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    lines = ["\t".join(columns)]
    lines += ["\t".join(_spell_cell(row[name]) for name in columns) for row in rows]
    return "\n".join(lines) + "\n"


def _spell_cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, tuple):
        return escape(",".join(map(str, value)))
    return escape(str(value))


def escape(text: str) -> str:
    """Spell control characters and other unprintable ones as escapes, so that none reaches a table or a terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )


# ---------------------------------------------------------------------------------------------------- the summary


SUMMARY_COLUMNS = ("trial", "baseline", "best", "gain", "proposals", "cost", "time", "gate")


def format_summary(runs: Sequence[Run]) -> list[str]:
    """Give the summary: a heading and an aligned line per run."""
    rows = [SUMMARY_COLUMNS, *map(_summary_row, runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(width) if index else cell.ljust(width) for index, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]


def _summary_row(run: Run) -> tuple[str, ...]:
    verdict = "passed" if run.gate.passed else "failed" if run.status == "completed" else run.status
    return (
        escape(run.nodeid),
        format_objective(run.baseline_objective) if run.candidates else "-",
        format_objective(run.best_objective) if run.candidates else "-",
        "-" if run.gain is None else f"{run.gain:+.3f}",
        f"{run.proposals}/{run.budget}",
        "-" if run.cost_usd is None else f"${run.cost_usd:.2f}",
        f"{run.duration_s:.1f}s",
        verdict,
    )


def describe_failure(run: Run) -> str:
    """Give the lines of a failed item: what was expected, what misses and why, what each proposal came to."""
    baseline, best_objective = format_objective(run.baseline_objective), format_objective(run.best_objective)
    standing = f"baseline {baseline}, best {best_objective} ({run.best_candidate})"
    lines = [*run.gate.failures, standing]
    if best := find_best(run):
        lines += [line for check in best.checks if check.value < 1 for line in _describe_miss(check)]
    lines += [describe_outcome(candidate) for candidate in run.candidates[1:]]
    return "\n".join(escape(line) for text in lines for line in text.splitlines())


def describe_run(run: Run, *, all_checks: bool) -> list[str]:
    """Give the lines of a run in the summary: why it failed, the best candidate's checks, what the proposals came to.

    Without *all_checks* only those that miss.
    """
    best = find_best(run)
    checks = [describe_check(check) for check in best.checks if all_checks or check.value < 1] if best else []
    tried = [] if run.gate.passed else [describe_outcome(candidate) for candidate in run.candidates[1:]]
    return [escape(text.partition("\n")[0]) for text in (*run.gate.failures, *checks, *tried)]


def describe_outcome(candidate: Candidate) -> str:
    """Give a candidate's line."""
    return f"{candidate.id} {candidate.outcome}: {candidate.reason}"


def find_best(run: Run) -> Candidate | None:
    """Give the best candidate's record."""
    return next((candidate for candidate in run.candidates if candidate.id == run.best_candidate), None)


def describe_check(check: CheckRecord) -> str:
    """Give a check's line."""
    return f"  {'ok  ' if check.value >= 1 else 'MISS'} {check.id}: {check.value:g} (weight {check.weight:g})"


def _describe_miss(check: CheckRecord) -> list[str]:
    feedback = check.feedback.strip().splitlines()
    return [describe_check(check), *(f"       {line}" for line in feedback[-FEEDBACK_LINES:])]
