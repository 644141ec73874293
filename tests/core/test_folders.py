from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_metaharness.core.folders import remove, remove_abandoned_folders, temporary_folder

KILLED = """
import os, signal, sys
from pytest_metaharness.core.folders import temporary_folder
with temporary_folder("proposal") as folder:
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_folders_of_killed_processes_are_removed_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
    left = Path(done.stdout.strip())
    assert left.is_dir()
    foreign = tmp_path / "metaharness-notes"
    foreign.mkdir()
    with temporary_folder("proposal") as own:
        remove_abandoned_folders()
        assert not left.exists()
        assert own.is_dir()
        assert own.stat().st_mode & 0o777 == 0o700
    assert not own.exists()
    assert foreign.is_dir()


def test_what_its_owner_may_not_enter_is_removed_too(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").touch(mode=0)
    (tmp_path / "a" / "b").chmod(0)
    (tmp_path / "a").chmod(0o500)
    remove(tmp_path / "a")
    assert not (tmp_path / "a").exists()
