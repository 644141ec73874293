"""A project that hostile candidates attack, the sessions in it, and what must be so afterwards.

Around the target lie canaries, a home folder and an earlier session. The backend runs each case's plant as a program,
in the jail where there is one, and notes what the workspace was before and after it, and what changed elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import listing
import pytest
from listing import Tree, describe_difference, list_tree
from sessions import Session, find_processes, make_mark, run_session, write_files

MEASURE = """
if __name__ == "__main__":
    import json, sys
    if "list" in sys.argv:
        print(json.dumps(list_tree(".")))
    with open("words.txt") as file:
        print(len(file.read().split()) / 100)
"""
"""The end of the sealed program ``measure/words.py``: it counts the words; with ``list`` it shows the checkout too."""

PROVIDER = """
import json, os, sys
from pathlib import Path

sys.path.insert(0, TESTS)
from listing import list_tree
from pytest_metaharness import Proposal

ROOT = Path(__file__).parents[1]
PLANTS = json.loads((ROOT / "plants.json").read_text())

def pytest_unconfigure():
    status = Path("/proc/self/status")
    if status.exists():
        (ROOT / "record" / "memory").write_text(status.read_text().partition("VmHWM:")[2].split()[0])

def list_elsewhere(request):
    folders = [ROOT / name for name in ("project", "home", "beside", ".metaharness")]
    trees = {str(folder): list_tree(folder, without={os.path.relpath(request.log_dir, folder)}) for folder in folders}
    return {f"{at}/{path}": item._replace(links=0) for at, tree in trees.items() for path, item in tree.items()}

def pytest_metaharness_propose(request):
    plant = PLANTS[int(request.candidate[1:]) - 1]
    note = {"before": list_tree(request.workspace, without={".metaharness/history"})}
    elsewhere = list_elsewhere(request)
    done = request.run((sys.executable, "-I", "-"), stdin=plant["program"].encode())
    if done.returncode != 0:
        raise RuntimeError(done.stderr.text()[-400:])
    now = list_elsewhere(request)
    note["elsewhere"] = [path for path in elsewhere.keys() | now.keys() if elsewhere.get(path) != now.get(path)]
    if plant["is_measured"]:
        note["after"] = list_tree(request.workspace)
    (ROOT / "record" / f"{request.candidate}.json").write_text(json.dumps(note))
    return Proposal(status="completed")
"""

PRELUDE = """
import os, socket, stat, subprocess, sys
from pathlib import Path

def write(path, content="x"):
    path = Path(os.fsdecode(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(content))

def refused(act, *args):
    try:
        act(*args)
    except OSError:
        return True
    return False
"""
"""What every plant can use; beside it JAILED, MARK (an argument for processes to be found by), and these folders:
HOME, BESIDE (of canaries), SESSIONS (of metaharness), and TRACE, a file that nothing may ever make."""

GIT_CONFIG = """\
[filter "evil"]
    clean = touch {trace}; cat
    smudge = touch {trace}; cat
    process = touch {trace}
    required
[core]
    autocrlf = true
    attributesFile = {home}/attributes
    hooksPath = {home}/hooks
    fsmonitor = touch {trace}
[init]
    templateDir = {home}/template
"""


@dataclass(frozen=True, kw_only=True)
class Project:
    """The folder of a test with the target, its surroundings and the sessions."""

    root: Path
    sandbox: str
    mark: str = field(default_factory=make_mark)

    @property
    def is_jailed(self) -> bool:
        """Whether the sessions have a jail."""
        return self.sandbox == "auto"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that sessions are run with."""
        places = {"HOME": str(self.root / "home"), "TMPDIR": str(self.root / "temporary")}
        return {**places, "PYTHONDONTWRITEBYTECODE": "1"}

    @property
    def trace(self) -> Path:
        """A file that nothing may ever make."""
        return self.root / "beside" / "trace"

    def write_program(self, program: str) -> str:
        """Give *program* with what it can use."""
        home, sessions = self.root / "home", self.root / ".metaharness"
        names = {"JAILED": self.is_jailed, "MARK": self.mark}
        places = {"HOME": home, "BESIDE": self.trace.parent, "SESSIONS": sessions, "TRACE": self.trace}
        lines = [f"{name} = {value!r}" for name, value in names.items()]
        lines += [f"{name} = Path({str(place)!r})" for name, place in places.items()]
        return "\n".join([PRELUDE, *lines, program])

    def write(self, target: Mapping[str, Any], plants: Sequence[tuple[str, bool]], files: Mapping[str, str]) -> None:
        """Write the target with its surroundings; *plants* are programs, and whether the candidate is measured."""
        home = self.root / "home"
        programs = [
            {"program": self.write_program(program), "is_measured": is_measured} for program, is_measured in plants
        ]
        measure = Path(listing.__file__).read_text(encoding="utf-8") + MEASURE
        canary = "echo canary\n"
        write_files(
            self.root,
            {
                "project/metaharness.yaml": json.dumps({"sealed": "sealed", "sandbox_read": [".."], **target}),
                "project/conftest.py": PROVIDER.replace("TESTS", repr(str(Path(__file__).parent))),
                "project/sealed/measure/words.py": measure,
                **{f"project/baseline/{path}": content for path, content in files.items()},
                "plants.json": json.dumps(programs),
                "home/.gitconfig": GIT_CONFIG.format(trace=self.trace, home=home),
                "home/attributes": "* filter=evil ident eol=crlf\n",
                "home/hooks/post-checkout": f"#!/bin/sh\ntouch {self.trace}\n",
                "home/template/hooks/post-index-change": f"#!/bin/sh\ntouch {self.trace}\n",
                "home/.netrc": canary,
                "beside/canary.txt": canary,
                "beside/in/canary.txt": canary,
                ".metaharness/earlier/report.json": canary,
                ".metaharness/earlier/store.git/HEAD": canary,
            },
        )
        for path in ("home/hooks/post-checkout", "home/template/hooks/post-index-change"):
            (self.root / path).chmod(0o755)
        (self.root / "beside" / "in" / "canary.txt").chmod(0)
        for name in ("record", "temporary"):
            (self.root / name).mkdir()

    def list_surroundings(self) -> Tree:
        """List all that no session may change."""
        trees = {
            name: list_tree(str(self.root / name)) for name in ("project", "home", "beside", ".metaharness/earlier")
        }
        return {f"{name}/{path}": item for name, tree in trees.items() for path, item in tree.items()}

    def read_note(self, candidate: str) -> dict[str, Any]:
        """Give what the backend noted of one proposal."""
        note: dict[str, Any] = json.loads((self.root / "record" / f"{candidate}.json").read_text())
        return note

    def read_memory_mb(self) -> float:
        """Give what pytest itself took at most."""
        return int((self.root / "record" / "memory").read_text()) / 1000

    def check_nothing_is_left(self) -> None:
        """Fail if a process, a temporary file or the trace is there."""
        assert find_processes(self.mark) == []
        assert os.listdir(self.root / "temporary") == []
        assert not self.trace.exists()

    def search(self, pytester: pytest.Pytester, *args: str) -> Session:
        """Run a session; fail if it changed anything around, or left anything."""
        before = self.list_surroundings()
        options = ("--metaharness=mine", f"--metaharness-sandbox={self.sandbox}", "-pno:cacheprovider")
        session = run_session(pytester, *options, *args, "project")
        session.result.assert_outcomes(passed=1)
        assert describe_difference(before, self.list_surroundings()) == []
        self.check_nothing_is_left()
        assert not [char for line in session.output.splitlines() for char in line if not char.isprintable()]
        return session


def make_project(root: Path, sandbox: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Give a project at *root* whose sessions have its home and its temporary folder."""
    project = Project(root=root, sandbox=sandbox)
    for name, value in project.environment.items():
        monkeypatch.setenv(name, value)
    return project
