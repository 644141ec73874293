"""Projects in which tests run pytest as a user would, with an eye on all that is around them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
from sessions import LEAN, write_files

MARK = "METAHARNESS_TEST_MARK"
"""A variable that all programs of a project inherit; a backend has to name it in its ``env``."""

WATCH = """
import json, os
from pathlib import Path
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_metaharness_propose(request):
    around = request.workspace.parent
    before = sorted(os.listdir(around))
    proposal = yield
    Path(__file__).with_name("around.json").write_text(json.dumps([before, sorted(os.listdir(around))]))
    return proposal
"""
"""A conftest.py that notes what is beside the workspace before and after the last proposal."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a run of pytest left: its exit code, all that it printed, and the runs of its report."""

    returncode: int
    output: str
    seconds: float
    folder: Path

    @cached_property
    def runs(self) -> list[dict[str, Any]]:
        """The runs of the report; none where nothing began."""
        report = self.folder / "report.json"
        return list(json.loads(report.read_text())["runs"]) if report.exists() else []

    @property
    def problems(self) -> list[str]:
        """The lines in which pytest tells that a backend cannot be used."""
        return [line for line in self.output.splitlines() if line.startswith("backend '")]


@dataclass(frozen=True)
class Project:
    """A folder of a user's whose home, temporary files and neighbours lie below *root*, too."""

    root: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def folder(self) -> Path:
        return self.root / "project"

    @property
    def home(self) -> Path:
        """The user's home folder; its parent is watched too."""
        return self.root / "home"

    @property
    def canary(self) -> Path:
        """A folder that is nobody's business."""
        return self.root / "canary"

    @property
    def temporary(self) -> Path:
        """Where sessions have their temporary folders, the workspaces among them."""
        return self.root / "tmp"

    def write(self, files: Mapping[str, str]) -> None:
        """Write *files* into it, which is made if need be, with what lies around it."""
        for folder in (self.home, self.canary, self.temporary):
            folder.mkdir(exist_ok=True)
        write_files(self.root, {"canary/kept.txt": "kept\n"})
        write_files(self.folder, {"pyproject.toml": "[tool.pytest]\n", "conftest.py": WATCH, **files})

    def write_target(self, name: str, table: Mapping[str, Any], files: Sequence[str], **keys: Any) -> None:
        """Write a target in which "old" is to become "new" in each of *files*; *table* is its backend "mine"."""
        target = {
            "goal": "Improve.",
            "sandbox_read": [str(self.canary)],
            "checks": {file: {"contains": {"path": file, "all": ["new"]}} for file in files},
            "backends": {"mine": {"env": {MARK: self.mark}, **table}},
            **keys,
        }
        baseline = {f"{name}/baseline/{file}": "old\n" for file in files}
        self.write({f"{name}/metaharness.yaml": json.dumps(target), **baseline})

    def run(
        self, *args: str, prefix: Sequence[str] = (sys.executable,), env: Mapping[str, str | None] | None = None
    ) -> Ran:
        """Run pytest in it, with the variables of *env* as well or, with ``None`` as value, without."""
        given = {**os.environ, "HOME": str(self.home), "TMPDIR": str(self.temporary), MARK: self.mark}
        given |= {"PYTEST_ADDOPTS": LEAN, "PYTHONDONTWRITEBYTECODE": "1"}
        environ = {name: value for name, value in {**given, **(env or {})}.items() if value is not None}
        begun = time.monotonic()
        done = subprocess.run(
            [*prefix, "-m", "pytest", "-pno:cacheprovider", "--metaharness-name=s", "--metaharness-retries=0", *args],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return Ran(
            returncode=done.returncode,
            output=f"{done.stdout}\n{done.stderr}",
            seconds=time.monotonic() - begun,
            folder=self.folder / ".metaharness" / "s",
        )

    def list_files(self) -> dict[str, object]:
        """List all that an agent might have changed outside of its workspace, with times and content."""
        own = (self.folder / ".metaharness", self.folder / "around.json")
        found: dict[str, object] = {}
        for folder, folders, files in os.walk(self.root):
            folders[:] = [name for name in folders if Path(folder, name) not in own]
            found[folder] = sorted(folders)
            for file in (Path(folder, name) for name in files):
                if file not in own:
                    found[str(file)] = (file.lstat().st_mtime_ns, file.read_bytes() if file.is_file() else b"")
        return found

    def read_neighbours(self) -> tuple[list[str], list[str]]:
        """Give what was beside the workspace before the last proposal, and after it."""
        before, after = json.loads((self.folder / "around.json").read_text())
        return before, after

    def check_nothing_is_left(self) -> None:
        """See that all programs that were started here end, within seconds, and that no temporary folder remains."""
        deadline = time.monotonic() + 5
        while left := self._find_processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.05)
        assert not list(self.temporary.glob("metaharness-*"))

    def _find_processes(self) -> list[str]:
        found = []
        for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
            command, cwd = process.info["cmdline"] or [], process.info["cwd"] or ""
            try:
                is_marked = process.environ().get(MARK) == self.mark
            except (psutil.Error, OSError):  # another user's, or just gone
                is_marked = False
            if is_marked or cwd.startswith(str(self.root)) or str(self.root) in " ".join(command):
                found.append(f"{process.pid} {' '.join(command)}")
        return [line for line in found if not line.startswith(f"{os.getpid()} ")]
