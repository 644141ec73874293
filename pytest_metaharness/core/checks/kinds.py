"""The kinds of checks: how each measures one workspace, and what it says to the next proposal."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import msgspec

from ..errors import MetaharnessError
from ..model import Check, CheckResult, Contains
from ..processes.alarm import Expired, alarm
from ..processes.process import Completed, host_environment, run, tracking
from ..processes.sandbox import Sandbox
from ..redaction import SECRET_LENGTH, Redactor
from ..store.snapshot import Entry, Snapshot
from ..store.store import Store
from .sealed_tests import run_sealed_tests

FEEDBACK_CHARACTERS = 2000
"""Characters of a program's output that its feedback keeps, from the end."""

SCORE_AT = 9
"""The descriptor on which a jailed scorer gets its standard output; the shells of all systems know one digit."""

AskHook = Callable[[Check, Path], object]
"""Asks the plugins for a ``use:`` check (``None`` when nobody knows its name), or the function of a ``call``."""


class UnknownCheckError(MetaharnessError):
    """Nobody answers for the name of a ``use:`` check."""


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """All that measuring one candidate needs.

    *snapshot* is the candidate's own, without the files of *sealed*; *checkout* and *private* are folders on disk: the
    files with the sealed ones laid over them, and the place for the home and temporary folders of each check.
    """

    snapshot: Snapshot
    sealed: Snapshot
    checkout: Path
    private: Path
    store: Store
    sandbox: Sandbox
    hidden: tuple[Path, ...]
    readable: tuple[Path, ...]
    redactor: Redactor
    ask_hook: AskHook


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a check gave: its result, the seconds that its command alone took, and its output for the log."""

    result: CheckResult
    duration_s: float
    output: str = ""


def measure(check: Check, bench: Bench) -> Measured:
    """Measure *bench*'s checkout with *check*. Misbehaviour of what is measured is value 0 with feedback.

    :raises UnknownCheckError: nobody answers for its ``use`` name.
    :raises SandboxError: the jail broke.
    """
    if check.contains is not None:
        measured = _measure_contains(check, check.contains, bench)
    elif check.pytest is not None:
        measured = _measure_tests(check, check.pytest, bench)
    elif check.use is not None or check.call is not None:
        measured = _measure_python(check, bench)
    else:
        measured = _measure_command(check, bench)
    return msgspec.structs.replace(measured, result=_make_storable(measured.result, bench.redactor))


def _make_storable(result: CheckResult, redactor: Redactor) -> CheckResult:
    """Blot out secrets, also those that showed only when JSON was decoded, and make all text valid UTF-8."""

    def clean(text: str) -> str:
        return redactor.text(text).encode("utf-8", "backslashreplace").decode("utf-8")

    metrics = {clean(name): value for name, value in result.metrics.items()}
    return CheckResult(value=result.value, feedback=clean(result.feedback), metrics=metrics)


# ------------------------------------------------------------------------------------------------------- contains


def _measure_contains(check: Check, contains: Contains, bench: Bench) -> Measured:
    start = time.monotonic()
    entry = bench.snapshot.get(contains.path)
    try:
        with alarm(check.timeout, Expired):
            missing = _find_missing(contains, entry, bench.store)
    except Expired:
        missing = f"{contains.path}: the conditions could not be decided within {check.timeout:g} s"
    result = CheckResult(value=0.0 if missing else 1.0, feedback=missing)
    return Measured(result=result, duration_s=time.monotonic() - start)


def _find_missing(contains: Contains, entry: Entry | None, store: Store) -> str:
    if entry is None:
        return f"{contains.path} is missing"
    if entry.mode == "120000":
        return f"{contains.path} is a symbolic link, not a file"
    text = store.read(entry.blob).decode("utf-8", "replace")
    problems = []
    if lacking := [part for part in contains.all if part not in text]:
        problems.append(f"lacks {_quote_all(lacking)}")
    if contains.any and not any(part in text for part in contains.any):
        problems.append(f"has none of {_quote_all(contains.any)}")
    if present := [part for part in contains.none if part in text]:
        problems.append(f"must not have {_quote_all(present)}")
    if contains.regex is not None and re.search(contains.regex, text, re.MULTILINE) is None:
        problems.append(f"has nothing that matches /{contains.regex}/")
    return f"{contains.path} {'; '.join(problems)}" if problems else ""


def _quote_all(parts: Sequence[str]) -> str:
    return ", ".join(f"'{part}'" for part in parts)


# -------------------------------------------------------------------------------------------------- run and score


def _measure_command(check: Check, bench: Bench) -> Measured:
    command = check.run if check.run is not None else check.score
    assert command is not None
    jail = bench.sandbox.jail(
        writable=(bench.checkout, bench.private), hidden=bench.hidden, readable=bench.readable, network=check.network
    )
    # what a scorer says counts: no other process of the jail, such as its first one, shall hold the way to say it
    is_guarded = check.score is not None and jail is not None
    completed = run(
        ("bash", "-c", f"exec >&{SCORE_AT} {SCORE_AT}>&-; {command}" if is_guarded else command),
        cwd=bench.checkout,
        env=make_environment(check, bench),
        timeout=check.timeout,
        jail=jail,
        merge_stderr=check.run is not None,
        stdout_at=SCORE_AT if is_guarded else 1,
    )
    output = _redact(completed, bench.redactor)
    if completed.timed_out:
        result = _fail(f"timed out after {check.timeout:g} s", output)
    elif check.run is not None:
        result = _judge_exit(check, completed, output)
    else:
        result = _judge_score(completed, output, bench.redactor)
    return Measured(result=result, duration_s=completed.duration_s, output=output)


def make_environment(check: Check, bench: Bench) -> dict[str, str]:
    """Give the variables of *check*'s programs: the allow-listed ones, and those that it names, as far as they are set.

    The values of the latter count as secrets from :data:`SECRET_LENGTH` on.
    """
    named = {name: os.environ[name] for name in check.env if name in os.environ}
    bench.redactor.add({name: value for name, value in named.items() if len(value) >= SECRET_LENGTH})
    return {**host_environment(bench.private / "home", bench.private / "tmp"), **named}


def _redact(completed: Completed, redactor: Redactor) -> str:
    return redactor.captured(completed.stdout).text() + redactor.captured(completed.stderr).text()


def _judge_exit(check: Check, completed: Completed, output: str) -> CheckResult:
    code = _read_exit_code(completed)
    if code == check.exit_code:
        return CheckResult(value=1.0)
    return _fail(f"exit code {code}, expected {check.exit_code}", output)


def _judge_score(completed: Completed, output: str, redactor: Redactor) -> CheckResult:
    if (code := _read_exit_code(completed)) != 0:
        return _fail(f"exit code {code}, expected 0", output)
    lines = redactor.captured(completed.stdout).text().rstrip().splitlines()
    try:
        result = read_score(lines[-1] if lines else "")
    except ValueError as error:
        return _fail(str(error), output)
    feedback = redactor.text(result.feedback)[:FEEDBACK_CHARACTERS]  # decoded only now: cut what is blotted out already
    return msgspec.structs.replace(result, feedback=feedback)


def read_score(line: str) -> CheckResult:
    """Read the last line of a scorer: a number 0 to 1, or an object with ``score`` and maybe ``metrics``, ``feedback``.

    :raises ValueError: it is neither.
    """
    allowed = 'a number 0 to 1 or {"score": ..., "metrics": {...}, "feedback": "..."}'
    message = f"the last line of standard output must be {allowed}, got {line[:80]!r}"
    try:
        value = msgspec.json.decode(line.strip())
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(message) from error
    given: dict[str, Any] = value if isinstance(value, dict) else {"score": value}
    metrics = given.get("metrics", {})
    feedback = given.get("feedback", "")
    if not (is_share(given.get("score")) and isinstance(metrics, dict) and isinstance(feedback, str)):
        raise ValueError(message)
    return CheckResult(value=float(given["score"]), feedback=feedback, metrics=_read_metrics(metrics))


def is_share(value: object) -> TypeGuard[float]:
    """Tell whether *value* is a number from 0 to 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _read_metrics(metrics: Mapping[Any, object]) -> dict[str, float]:
    """Take the numbers that a report can hold: neither NaN nor infinite, nor an integer beyond any float."""
    return {
        str(name): float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and abs(value) <= sys.float_info.max
    }


def _fail(reason: str, output: str = "") -> CheckResult:
    tail = output.strip()[-FEEDBACK_CHARACTERS:]
    return CheckResult(value=0.0, feedback=f"{reason}\n{tail}".strip())


def _read_exit_code(completed: Completed) -> int | None:
    """Give the code as a shell tells it, 128 + the signal where there was one: the same with and without a jail."""
    code = completed.returncode
    return code if code is None or code >= 0 else 128 - code


# --------------------------------------------------------------------------------------------------------- pytest


def _measure_tests(check: Check, path: str, bench: Bench) -> Measured:
    def start(
        argv: Sequence[str], *, stdin: bytes, readable: tuple[Path, ...], on_line: Callable[[bytes], None]
    ) -> Completed:
        return run(
            argv,
            cwd=bench.checkout,
            env=make_environment(check, bench),
            timeout=check.timeout,
            stdin=stdin,
            jail=bench.sandbox.jail(
                writable=(bench.checkout, bench.private),
                hidden=bench.hidden,
                readable=(*bench.readable, *readable),
                network=check.network,
            ),
            on_line=on_line,
        )

    completed, result, output = run_sealed_tests(
        path,
        sealed=bench.sealed,
        store=bench.store,
        checkout=bench.checkout,
        redactor=bench.redactor,
        start=start,
    )
    if completed.timed_out:
        result = _fail(f"timed out after {check.timeout:g} s", output)
    result = msgspec.structs.replace(result, feedback=result.feedback[:FEEDBACK_CHARACTERS])
    return Measured(result=result, duration_s=completed.duration_s, output=output)


# --------------------------------------------------------------------------------------------------- use and call


def _measure_python(check: Check, bench: Bench) -> Measured:
    start = time.monotonic()
    try:
        with tracking(), alarm(check.timeout, Expired):
            answer = bench.ask_hook(check, bench.checkout)
    except Expired:
        result = _fail(f"timed out after {check.timeout:g} s")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin's check may raise anything; that is its feedback
        result = _fail(f"the check '{check.use or check.id}' raised {type(error).__name__}: {error}")
    else:
        if answer is None and check.use is not None:
            message = f"checks.{check.id}: nobody answers for use: {check.use} (implement pytest_metaharness_check)"
            raise UnknownCheckError(message)
        result = _read_answer(check, answer, bench.redactor)
    return Measured(result=result, duration_s=time.monotonic() - start)


def _is_result(answer: Any) -> TypeGuard[CheckResult]:
    """Tell whether *answer* is a result of the right types, which nobody has checked so far."""
    return (
        isinstance(answer, CheckResult)
        and is_share(answer.value)
        and all(map(isinstance, (answer.feedback, answer.metrics), (str, Mapping)))
    )


def _read_answer(check: Check, answer: object, redactor: Redactor) -> CheckResult:
    if check.call is not None and isinstance(answer, int | float) and 0 <= answer <= 1:  # True and False too
        return CheckResult(value=float(answer))
    if not _is_result(answer):
        allowed = "a CheckResult with a value 0 to 1" if check.use else "a number 0 to 1, or a CheckResult with one"
        shown = redactor.text(repr(answer))
        return _fail(f"the check '{check.use or check.id}' must give {allowed}, got {shown}"[:300])
    return CheckResult(
        value=float(answer.value),
        feedback=redactor.text(answer.feedback)[:FEEDBACK_CHARACTERS],
        metrics=_read_metrics(answer.metrics),
    )
