"""Sessions through the front door: write a target, run it, look at what it left."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

NAME = "tested"


@dataclass(frozen=True)
class Session:
    """A finished session: what pytest printed, and the folder with its records."""

    result: pytest.RunResult
    folder: Path

    @property
    def output(self) -> str:
        """Everything on the terminal."""
        return f"{self.result.stdout}\n{self.result.stderr}"

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The runs of the report."""
        runs: list[dict[str, Any]] = json.loads((self.folder / "report.json").read_text())["runs"]
        return runs

    @property
    def run(self) -> dict[str, Any]:
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


def run_session(pytester: pytest.Pytester, *args: str) -> Session:
    """Run pytest in a process of its own."""
    result = pytester.runpytest_subprocess(f"--metaharness-name={NAME}", *args)
    return Session(result, pytester.path / ".metaharness" / NAME)


def write_files(folder: Path, files: Mapping[str, str]) -> Path:
    """Write *files*, path -> content, below *folder*."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def make_mark() -> str:
    """Give a number of seconds that no other process sleeps, to find its processes by."""
    return str(uuid.uuid4().int % 10**8 + 10**6)


def find_processes(argument: str) -> list[psutil.Process]:
    """Give the processes of this machine that have *argument* on their command line."""
    return [process for process in psutil.process_iter(["cmdline"]) if argument in (process.info["cmdline"] or ())]
