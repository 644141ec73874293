"""Git repositories as users have them: made with git itself, whatever configuration this machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from sessions import write_files

GIT = ("git", "-c", "user.name=n", "-c", "user.email=n@localhost", "-c", "protocol.file.allow=always")

Tree = dict[bytes, bytes]


def git(folder: Path, *arguments: str) -> bytes:
    done = subprocess.run([*GIT, *arguments], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.strip()


def commit(folder: Path, files: Mapping[str, str]) -> str:
    """Commit *files* and whatever else is there; gives the commit's id."""
    write_files(folder, files)
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "-m", "files")
    return git(folder, "rev-parse", "HEAD").decode()


def list_tree(folder: Path, tree: str) -> Tree:
    """Give path -> mode, type and id of the blob."""
    lines = git(folder, "ls-tree", "-r", "-z", "--full-tree", tree).split(b"\0")[:-1]
    return {path: head for head, _, path in (line.partition(b"\t") for line in lines)}


def wrap_git(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> Path:
    """Put a git on PATH that first does *line*."""
    folder.mkdir()
    (folder / "git").write_text(f'#!/bin/sh\n{line}\nexec {shutil.which("git")} "$@"\n')
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder
