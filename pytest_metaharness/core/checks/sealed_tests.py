"""Sealed tests: the author's test functions, run on a checkout by a pytest that the candidate does not hold.

pytest runs in an interpreter of its own. The tests lie outside of the checkout, in a folder with a random name that
exists for one check only; there are its rootdir, its ini file and all its conftests. In the checkout it only works,
and finds the candidate's modules. What it says comes line by line through a pipe, each line signed with a key that
stands in no file, argument or variable, so that nothing that was said can be taken back, and nobody else can say it.
"""

from __future__ import annotations

import ast
import hashlib
import hmac
import importlib.util
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from ..errors import MetaharnessError
from ..folders import temporary_folder
from ..model import CheckResult
from ..processes.process import Completed
from ..redaction import Redactor
from ..store.checkout import Checkout
from ..store.snapshot import Snapshot, show_path
from ..store.store import Store
from .sealed_functions import Rules, find_functions

RUNNER = Path(__file__).parents[2] / "sealed_report.py"
"""The program that runs pytest. It lies above this layer, since it imports pytest; nobody imports it."""

_FOREIGN = {
    "installed": "'{}' is the installed package of that name, not the candidate's",
    "sealed": "'{}' is the sealed folder of that name, which hides the candidate's: rename the folder",
}
_NAMES_SHOWN = 10
_MESSAGE_CHARACTERS = 500
_OUTPUT_CHARACTERS = 1500
_NOT_FAILED = frozenset({"", "passed", "skipped", "xfailed"})


class NoSealedTestsError(MetaharnessError):
    """A ``pytest:`` check has nothing to run, so that it has no value. Never a candidate's fault."""


class Start(Protocol):
    """Start a program in the checkout as the check's own programs are; it can read the folders *readable* too."""

    def __call__(
        self, argv: Sequence[str], *, stdin: bytes, readable: tuple[Path, ...], on_line: Callable[[bytes], None]
    ) -> Completed: ...


class Tested(NamedTuple):
    """What came of the tests, and what pytest printed."""

    completed: Completed
    result: CheckResult
    output: str


def run_sealed_tests(
    path: str, *, sealed: Snapshot, store: Store, checkout: Path, redactor: Redactor, start: Start
) -> Tested:
    """Run the tests in the file or folder *path* of *sealed*.

    The value is the share of their functions of which at least one case ran and all passed; skipped is not passed. The
    functions are counted in the syntax trees, so that one that never comes to run counts too.

    :raises NoSealedTestsError: there are none.
    """
    key = secrets.token_bytes(32)
    report = _Report(key, redactor)
    packages = _find_pytest()
    with temporary_folder("sealed") as folder:
        root = folder / "sealed"
        place = Checkout(root, store)
        place.turn_to(sealed)
        place.restore()
        (folder / "pytest.ini").touch()  # ends the search for an ini file, where the author has none
        runner = folder / "report.py"
        runner.write_bytes(RUNNER.read_bytes())
        completed = start(
            (sys.executable, "-I", "-B", str(runner), str(packages), str(root), path),
            stdin=key,
            readable=(folder, packages),
            on_line=report.read_line,
        )
        if changed := next(place.find_changes(), None):  # in the jail nobody can
            report.tampering = f"the sealed file {show_path(changed)} was changed while pytest ran"
    functions = find_functions(sealed, store, path=path, rules=report.rules or Rules())
    if report.rules and not functions:
        message = (
            f"pytest: there are no test functions in the sealed files '{path}' (made at run time they do not count)"
        )
        raise NoSealedTestsError(message)
    output = redactor.captured(completed.stderr).text()
    result = report.judge(functions, output)
    feedback = result.feedback.replace(f"{root}/", "").replace(f"{checkout}/", "")
    return Tested(completed, msgspec.structs.replace(result, feedback=feedback), output)


def _find_pytest() -> Path:
    """Find the folder that holds the pytest of this interpreter, which may be one of the user's own."""
    found = importlib.util.find_spec("pytest")
    if found is None or found.origin is None:
        message = "pytest is not installed for this interpreter"
        raise MetaharnessError(message)
    return Path(found.origin).parent.parent


class _Case(msgspec.Struct):
    function: str
    outcome: str = ""
    message: str = ""


class _Report:
    """What the runner has told: only lines that it has signed, in their order, count."""

    def __init__(self, key: bytes, redactor: Redactor) -> None:
        self.rules: Rules | None = None
        self.tampering: str | None = None
        self._key = key
        self._redactor = redactor
        self._count = 0
        self._cases: dict[str, _Case] = {}
        self._troubles: dict[str, str] = {}
        self._foreign: list[str] = []
        self._exit_code: int | None = None

    def read_line(self, line: bytes) -> None:
        signature, _, text = line.rstrip(b"\n").partition(b" ")
        expected = hashlib.blake2b(b"%d %b" % (self._count, text), key=self._key, digest_size=16).hexdigest().encode()
        if hmac.compare_digest(signature, expected):
            self._count += 1
            try:
                self._take(*ast.literal_eval(text.decode()))
            except (
                SyntaxError,
                ValueError,
                TypeError,
                LookupError,
                RecursionError,
                MemoryError,
            ):  # it was told something else
                self.tampering = "the report of pytest cannot be read"

    def _take(self, kind: str, *parts: Any) -> None:
        match kind, *parts:
            case "settings", settings:
                self.rules = msgspec.convert(settings, Rules)
            case "planned", function, case:
                self._cases[case] = _Case(function or case)
            case "case", case, outcome, message:
                planned = self._cases.get(case)
                self._cases[case] = _Case(planned.function if planned else case, outcome, self._cut(message))
            case "trouble", where, message:
                self._troubles[where] = self._cut(message)
            case "tampered", what:
                self.tampering = f"pytest itself was changed while it ran: {what}"
            case "foreign", module, owner:
                self._foreign.append(_FOREIGN[owner].format(module))
            case "end", code:
                self._exit_code = code

    def _cut(self, message: str) -> str:
        """Shorten *message*, after what is secret is out of it: half a secret would not be recognized."""
        return self._redactor.text(message)[:_MESSAGE_CHARACTERS]

    def judge(self, functions: frozenset[str], output: str) -> CheckResult:
        """Count what has passed of *functions*; what fails beside them (made at run time) counts as one more each."""
        functions |= {case.function for case in self._cases.values() if case.outcome not in _NOT_FAILED}
        missed = {case.function for case in self._cases.values() if case.outcome != "passed"}
        passed = (functions & {case.function for case in self._cases.values()}) - missed
        if self.tampering:
            passed, explanation = frozenset(), [self.tampering]
        else:
            explanation = [*self._foreign, *self._explain_misses(functions, passed)]
            if self._exit_code != 0 and not (self._cases or self._troubles):
                explanation.append(output.strip()[-_OUTPUT_CHARACTERS:])
        return CheckResult(
            value=len(passed) / len(functions) if functions else 0.0,
            feedback="\n".join(explanation),
            metrics={"passed": float(len(passed)), "total": float(len(functions))},
        )

    def _explain_misses(self, functions: frozenset[str], passed: frozenset[str]) -> Iterator[str]:
        if passed == functions:
            return
        yield f"{len(passed)} of {len(functions)} test functions pass"
        if self._exit_code is None:
            unfinished = [name for name, case in self._cases.items() if not case.outcome]
            yield f"pytest ended early{f', in {unfinished[0]}' if unfinished else ''}"
        elif self._exit_code > 1:
            yield f"pytest ended with exit code {self._exit_code}"
        yield from (f"{where or 'collection'}: {message}" for where, message in self._troubles.items())
        told = set(passed)
        for name, case in self._cases.items():
            if case.outcome not in {"", "passed"} and case.function in functions - told:
                told.add(case.function)
                yield f"{name} {case.outcome}: {case.message}"
        if untold := sorted(functions - told):
            more = f" and {len(untold) - _NAMES_SHOWN} more" if len(untold) > _NAMES_SHOWN else ""
            yield f"not run: {', '.join(untold[:_NAMES_SHOWN])}{more}"
