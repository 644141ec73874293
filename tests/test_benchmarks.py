"""The benchmarks run: each script in its smallest form. What it measures is not looked at, nor what that is against."""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from doc_pages import ROOT

FOLDER = ROOT / "benchmarks"
SMALLEST = {
    "collection.py": "--targets 3 --repeats 1",
    "searches.py": '--budgets 1 --files 3 --length 100 --workspaces "" --sandbox off',
    "sweep.py": "--workers 1 --trials 1 --benchmarks local_oss_smoke",
    "unused.py": "--repeats 1 --collections 1 --folders 1",
    "waiting.py": "--seconds 0.1 --trials 2 --repeats 1",
}
BESIDE = {"agents.py", "measuring.py", "peer_search.py", "peer_sweep.py"}


def run(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, FOLDER / script, *args], capture_output=True, encoding="utf-8", timeout=120, check=False
    )


def test_every_script_is_run_here_and_explained() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == {*SMALLEST, *BESIDE}
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in (*SMALLEST, *BESIDE) if f"`{name}`" not in text and f"benchmarks/{name}" not in text] == []


@pytest.mark.parametrize("script", SMALLEST)
def test_it_prints_its_tables(script: str) -> None:
    done = run(script, *shlex.split(SMALLEST[script]))
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[1].startswith("- Python ")
    (rule,) = (number for number, line in enumerate(lines) if line.startswith("|---"))
    rows = [line for line in lines[rule - 1 :] if line.startswith("|")]
    assert len(rows) >= 3
    assert len({row.count("|") for row in rows}) == 1
    assert done.returncode == any(line.startswith("limit exceeded: ") for line in lines)


@pytest.mark.parametrize("script", SMALLEST)
def test_its_help_says_what_is_measured_and_what_is_allowed(script: str) -> None:
    done = run(script, "--help")
    assert done.returncode == 0
    assert "Measure " in done.stdout
    assert "exit code 1" in done.stdout


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("measuring")


def test_what_exceeds_a_limit_is_marked_and_fails(measuring: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    limits = measuring.Limits()
    assert limits.check(1.9, 2, shown="1.9 s", what="one") == "1.9 s"
    assert limits.conclude() == 0
    assert limits.check(2, 2, shown="2 s", what="two") == "**2 s**"
    assert limits.conclude() == 1
    assert capsys.readouterr().out == "\nlimit exceeded: two: 2 s\n"


def test_disk_counts_a_hard_link_once(measuring: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    before = measuring.measure_disk(tmp_path)
    (folder / "file").write_bytes(b"x" * 8192)
    (folder / "link").hardlink_to(folder / "file")
    after = measuring.measure_disk(tmp_path)
    assert after.inodes - before.inodes == 1
    assert 0 < after.size - before.size < 2 * 8192
