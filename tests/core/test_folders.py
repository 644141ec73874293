from __future__ import annotations

import os
import shutil
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


def test_no_depth_is_too_much(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for level in range(1200):  # deeper than a path, the stack and mostly the descriptors allow
        os.mkdir("folder", dir_fd=here)
        inner = os.open("folder", os.O_RDONLY, dir_fd=here)
        if level % 100 == 0:
            os.close(os.open("file", os.O_CREAT, dir_fd=here))
            os.chmod(here, 0)
        os.close(here)
        here = inner
    os.close(here)
    remove(top)
    assert list(tmp_path.iterdir()) == []


def test_what_may_not_be_changed_is_removed_too(tmp_path: Path) -> None:
    place = tmp_path / "top" / "in"
    place.mkdir(parents=True)
    attributes = {place / "immutable": "+i", place / "appendable": "+a", place: "+i"}
    for path, attribute in attributes.items():
        if path != place:
            path.touch()
        done = shutil.which("chattr") and subprocess.run(["chattr", attribute, path], check=False)
        if not done or done.returncode:
            pytest.skip("needs root, chattr and a file system with attributes")
    remove(tmp_path / "top")
    assert list(tmp_path.iterdir()) == []


MOUNTED = """
import subprocess, sys
from pathlib import Path
from pytest_metaharness.core.folders import remove

top, host = map(Path, sys.argv[1:])
for options in (["--bind", host, top / "a folder"], ["--bind", host / "file", top / "file"]):
    subprocess.run(["mount", *options], check=True)
subprocess.run(["mount", "-t", "tmpfs", "none", top / "a folder"], check=True)
(top / "a folder" / "in memory").touch()
remove(top / "file")
assert not (top / "file").exists()
remove(top)
assert not top.exists()
"""


def test_what_is_mounted_is_detached_not_emptied(tmp_path: Path) -> None:
    if os.getuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("needs root, and mounts of its own")
    host, top = tmp_path / "host", tmp_path / "top"
    for folder in (host, top, top / "a folder"):
        folder.mkdir()
    for file in (host / "file", top / "file"):
        file.write_text("kept")
    subprocess.run(["unshare", "--mount", sys.executable, "-c", MOUNTED, top, host], check=True)
    assert not top.exists()
    assert [file.read_text() for file in host.iterdir()] == ["kept"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process has begun")
def test_a_process_that_has_the_number_of_a_killed_one_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In containers the next session often has the very number of the last one."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with temporary_folder("proposal") as own:
        space, pid, start, unique = own.name.removeprefix("metaharness-proposal-").split("-")
        left = own.with_name(f"metaharness-proposal-{space}-{pid}-{int(start) - 1}-{unique}")
        left.mkdir()
        remove_abandoned_folders()
        assert own.is_dir()
        assert not left.exists()
