"""Clean-room evaluation: a candidate is what its snapshot contains, measured in a fresh checkout of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from .checkout import Checkout, remove, temporary_folder
from .checks import AskHook, Bench, Measured, measure
from .model import Check, CheckRecord, CheckResult
from .redaction import Redactor
from .sandbox import Sandbox
from .snapshot import Snapshot, overlay
from .store import Store


class Laboratory(msgspec.Struct, frozen=True, kw_only=True):
    """What the evaluations of one trial have in common; *sealed* is laid over every checkout."""

    checks: Sequence[Check]
    sealed: Snapshot
    store: Store
    sandbox: Sandbox
    hidden: tuple[Path, ...]
    readable: tuple[Path, ...]
    redactor: Redactor
    ask_hook: AskHook


def evaluate(
    snapshot: Snapshot,
    laboratory: Laboratory,
    *,
    on_start: Callable[[Check], None],
    on_end: Callable[[Check, Measured], None],
) -> tuple[CheckRecord, ...]:
    """Run every check on *snapshot*, in order, in one fresh checkout that is removed afterwards.

    Before each check every file of the snapshot and every sealed file is as in the store, and no process of an
    earlier check is alive; files that earlier checks made remain.
    """
    records: list[CheckRecord] = []
    with temporary_folder("evaluation") as folder:
        checkout = Checkout(folder / "checkout", overlay(snapshot, laboratory.sealed), laboratory.store)
        private = folder / "private"
        bench = Bench(
            snapshot=snapshot,
            checkout=checkout.folder,
            private=private,
            store=laboratory.store,
            sandbox=laboratory.sandbox,
            hidden=laboratory.hidden,
            readable=laboratory.readable,
            redactor=laboratory.redactor,
            ask_hook=laboratory.ask_hook,
        )
        for check in laboratory.checks:
            on_start(check)
            _make_private(private)
            checkout.restore()
            measured = measure(check, bench)
            on_end(check, measured)
            records.append(_record(check, measured))
    return tuple(records)


def _make_private(folder: Path) -> None:
    remove(folder)
    (folder / "home").mkdir(parents=True)
    (folder / "tmp").mkdir()


def _record(check: Check, measured: Measured) -> CheckRecord:
    result = measured.result
    return CheckRecord(
        id=check.id,
        value=result.value,
        weight=check.weight,
        duration_s=measured.duration_s,
        feedback=result.feedback,
        metrics=result.metrics,
    )


def weigh(records: Sequence[CheckRecord]) -> float:
    """Give the weighted mean of the check values: 0 to 1, higher is better."""
    total = math.fsum(record.weight for record in records)
    return math.fsum(record.value * record.weight for record in records) / total


def find_required_misses(checks: Sequence[Check], records: Sequence[CheckRecord]) -> tuple[str, ...]:
    """Name the required checks whose value is below 1; one makes its candidate invalid."""
    return tuple(check.id for check, record in zip(checks, records, strict=True) if check.required and record.value < 1)


def as_results(records: Sequence[CheckRecord]) -> dict[str, CheckResult]:
    """Give the results by check id, as the hook ``pytest_metaharness_objective`` gets them."""
    return {
        record.id: CheckResult(value=record.value, feedback=record.feedback, metrics=record.metrics)
        for record in records
    }
