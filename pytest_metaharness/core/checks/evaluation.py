"""Clean-room evaluation: a candidate is what its snapshot contains, measured in a fresh checkout of it."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from ..model import Check, CheckRecord, CheckResult, Target
from ..processes.sandbox import Sandbox
from ..redaction import Redactor
from ..store.checkout import Checkout
from ..store.snapshot import Snapshot, overlay
from ..store.store import Store
from .kinds import AskHook, Bench, Measured, measure
from .reuse import Evaluations


class Laboratory(msgspec.Struct, frozen=True, kw_only=True):
    """What the evaluations of one trial have in common: *sealed* is laid over every snapshot in *checkout*.

    *private* has the home and the temporary folder of each check.
    """

    target: Target
    sealed: Snapshot
    checkout: Checkout
    private: Checkout
    store: Store
    sandbox: Sandbox
    hidden: tuple[Path, ...]
    readable: tuple[Path, ...]
    redactor: Redactor
    ask_hook: AskHook
    evaluations: Evaluations

    def describe(self, checks: Sequence[Check]) -> str:
        """Name what values depend on beside the files: the isolation, and for ``use`` checks whose plugins answer."""
        answerer = str(self.target.file) if any(check.use for check in checks) else ""
        return f"{self.sandbox.mode} {self.readable} {answerer}"


def evaluate(
    snapshot: Snapshot,
    laboratory: Laboratory,
    *,
    on_start: Callable[[Check], None],
    on_end: Callable[[Check, Measured], None],
) -> tuple[CheckRecord, ...]:
    """Run every check on *snapshot*, in declared order, in a checkout that holds nothing else at first.

    Before each check every file of the snapshot and every sealed file is as in the store, and no process of an
    earlier check is alive; files that earlier checks made remain. ``fresh`` checks come last, each with the checkout to
    itself. What shares it is measured together or, where the session knows the result, not at all.
    """
    shared = tuple(check for check in laboratory.target.checks if not check.fresh)
    groups = [shared] if shared else []
    groups += [(check,) for check in laboratory.target.checks if check.fresh]

    def measure_group(group: Sequence[Check]) -> tuple[CheckRecord, ...]:
        records: list[CheckRecord] = []
        with _lay_out(snapshot, laboratory) as bench:
            for check in group:
                on_start(check)
                measured = _repeat(check, bench, laboratory)
                on_end(check, measured)
                records.append(_record(check, measured))
        return tuple(records)

    known: dict[str, CheckRecord] = {}
    for group in groups:
        records = laboratory.evaluations.give(
            group,
            snapshot=snapshot,
            sealed=laboratory.sealed,
            context=laboratory.describe(group),
            measure=functools.partial(measure_group, group),
        )
        known.update((record.id, record) for record in records)
    return tuple(known[check.id] for check in laboratory.target.checks)


@contextlib.contextmanager
def _lay_out(snapshot: Snapshot, laboratory: Laboratory) -> Iterator[Bench]:
    """Turn the checkout to *snapshot* under the sealed files; of these and of what checks made nothing stays."""
    laboratory.checkout.turn_to(overlay(snapshot, laboratory.sealed))
    try:
        yield Bench(
            snapshot=snapshot,
            sealed=laboratory.sealed,
            checkout=laboratory.checkout.folder,
            private=laboratory.private.folder,
            store=laboratory.store,
            sandbox=laboratory.sandbox,
            hidden=laboratory.hidden,
            readable=laboratory.readable,
            redactor=laboratory.redactor,
            ask_hook=laboratory.ask_hook,
        )
    finally:
        laboratory.private.sweep()
        own = {path: entry for path, entry in snapshot.items() if path not in laboratory.sealed}
        laboratory.checkout.turn_to(own)


def _repeat(check: Check, bench: Bench, laboratory: Laboratory) -> Measured:
    """Measure as often as *check* asks for; the value is the mean, the feedback that of the worst."""
    measured: list[Measured] = []
    for _ in range(check.repeat):
        _prepare(laboratory.private, laboratory.checkout)
        measured.append(measure(check, bench))
    worst = min(measured, key=lambda one: one.result.value)
    value = math.fsum(one.result.value for one in measured) / len(measured)
    return Measured(
        result=msgspec.structs.replace(worst.result, value=value),
        duration_s=sum(one.duration_s for one in measured),
        output="".join(one.output for one in measured),
    )


def _prepare(private: Checkout, checkout: Checkout) -> None:
    try:
        private.sweep()
        private.restore()
        checkout.restore()
    except OSError:  # what earlier checks left stands in the way, on a full disk for one: then it cannot remain
        private.clear()
        checkout.clear()
        private.restore()
        checkout.restore()


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
