"""Sessions through the front door: write a target, run it, look at what it left."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import psutil
import pytest

from pytest_metaharness.reports import build_schema

LEAN = " ".join(f"-p no:{name}" for name in ("hypothesispytest", "pytest_cov", "randomly", "rerunfailures"))
"""``PYTEST_ADDOPTS`` of sessions that do without the plugins that happen to be installed beside."""

serial_and_xdist = pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["serial", "xdist"])

Report = dict[str, Any]
Run = dict[str, Any]
"""A run as the report has it."""


# --------------------------------------------------------------------------------------------------------- targets


def write_files(folder: Path, files: Mapping[str, str]) -> Path:
    """Write *files*, path -> content, below *folder*."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def make_target(folder: Path, text: str, *, fake: str = "", **files: str) -> Path:
    """Make a target of *text* with baseline *files*; ``a_txt`` is the file ``a.txt``. ``fake`` may play *fake*."""
    write_files(folder, {"metaharness.yaml": text})
    if fake:
        write_files(folder, {"fake.yaml": f"proposals: {fake}\n"})
    return write_files(folder, {f"baseline/{name.replace('_', '.')}": content for name, content in files.items()})


# -------------------------------------------------------------------------------------------------------- sessions


@dataclass(frozen=True, kw_only=True)
class Session:
    """A finished session: what pytest printed, and the folder with its records."""

    result: pytest.RunResult
    folder: Path

    @property
    def output(self) -> str:
        """Everything on the terminal."""
        return f"{self.result.stdout}\n{self.result.stderr}"

    @cached_property
    def report(self) -> Report:
        """The content of ``report.json``, which fits its schema."""
        return _read_report(self.folder)

    @property
    def runs(self) -> list[Run]:
        """The runs of the report."""
        runs: list[Run] = self.report["runs"]
        return runs

    @property
    def runs_by_target(self) -> dict[str, Run]:
        """The runs of the report, by the name of the target: each has one."""
        runs = {run["target"]: run for run in self.runs}
        assert len(runs) == len(self.runs)
        return runs

    @property
    def run(self) -> Run:
        """The only run."""
        (run,) = self.runs
        return run

    @property
    def trial(self) -> Path:
        """The folder of the only run."""
        (journal,) = self.folder.glob("*/journal.jsonl")
        return journal.parent

    def candidate(self, number: int) -> dict[str, Any]:
        """A candidate of the only run."""
        candidate: dict[str, Any] = self.run["candidates"][number]
        return candidate

    def values(self, number: int = 0) -> dict[str, float]:
        """The values of the checks of a candidate of the only run."""
        return {check["id"]: check["value"] for check in self.candidate(number)["checks"]}

    def feedback(self, number: int = 0) -> dict[str, str]:
        """The feedback of the checks of a candidate of the only run."""
        return {check["id"]: check["feedback"] for check in self.candidate(number)["checks"]}


def run_session(pytester: pytest.Pytester, *args: str, name: str = "tested") -> Session:
    """Run pytest in a process of its own."""
    result = pytester.runpytest_subprocess(f"--metaharness-name={name}", *args)
    return Session(result=result, folder=pytester.path / ".metaharness" / name)


def find_session(root: Path) -> Path:
    """Give the folder of the only session under *root*, for tests that start one by other means."""
    (file,) = root.glob(".metaharness/*/session.json")
    return file.parent


def read_report(root: Path) -> Report:
    """Give the report of the only session under *root*, for tests that start one by other means."""
    return _read_report(find_session(root))


def _read_report(folder: Path) -> Report:
    report: Report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    _make_validator().validate(report)
    return report


@cache
def _make_validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(build_schema())


# ------------------------------------------------------------------------------------------------ what is left behind


def read_outcomes(run: Run) -> list[str]:
    """Give the outcome of every candidate, in order."""
    return [candidate["outcome"] for candidate in run["candidates"]]


def read_all(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Give every name and content below *folder*, with where it stands, and the content of every git object."""
    for path in folder.rglob("*"):
        yield f"name of {path}", os.fsencode(path)
        if path.is_symlink():
            yield f"link {path}", os.fsencode(os.readlink(path))
        elif path.is_file():
            yield str(path), path.read_bytes()
    for store in folder.rglob("store.git"):
        yield str(store), read_objects(store)


def read_objects(store: Path) -> bytes:
    """Give the content of every object of the git repository *store*."""
    command = ["git", "--git-dir", str(store), "cat-file", "--batch-all-objects", "--batch"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def read_table(file: Path) -> list[dict[str, str]]:
    """Give the rows of a TSV file as its heading names them."""
    heading, *lines = (line.split("\t") for line in file.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
    return [dict(zip(heading, line, strict=True)) for line in lines]


def read_junit(file: Path) -> Mapping[str, ElementTree.Element]:
    """Give the test cases of a JUnit file, by class and name."""
    return {
        "{classname}::{name}".format(**case.attrib): case for case in ElementTree.parse(file).getroot().iter("testcase")
    }


def make_mark() -> str:
    """Give a number of seconds that no other process sleeps, to find its processes by."""
    return str(uuid.uuid4().int % 10**8 + 10**6)


def find_processes(argument: str) -> list[psutil.Process]:
    """Give the processes of this machine that have *argument* on their command line."""
    return [process for process in psutil.process_iter(["cmdline"]) if argument in (process.info["cmdline"] or ())]


def lack(reason: str) -> None:
    """Skip the test for want of something on this machine, but never in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"in CI this must not be absent: {reason}")
    pytest.skip(reason)
