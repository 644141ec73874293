"""Becoming a user without privileges, for tests that run as root."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

PLAIN_USER = 12345


def become_plain_user(folder: Path) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Give the command prefix that runs this Python as PLAIN_USER, and its environment; *folder* will be all its own.

    What that user cannot read of the packages in use is copied into *folder*.
    """
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv to become a plain user")
    search = os.pathsep.join(entry for entry in os.get_exec_path() if _is_open(Path(entry)))
    python = _find_python(search)
    packages = [_open_packages(Path(entry), folder) for entry in sys.path if entry and Path(entry).is_dir()]
    (folder / "home").mkdir(exist_ok=True)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, PLAIN_USER, PLAIN_USER, follow_symlinks=False)
    environ = {
        **os.environ,
        "HOME": str(folder / "home"),
        "PATH": search,
        "PYTHONPATH": os.pathsep.join(map(str, packages)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return ("setpriv", f"--reuid={PLAIN_USER}", f"--regid={PLAIN_USER}", "--clear-groups", python), environ


def _find_python(search: str) -> str:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, shutil.which(version, path=search)):
        if python and _is_open(Path(python)) and _is_open(Path(python).resolve()):
            return python
    pytest.skip(f"no {version} here that another user can use")


def _is_open(path: Path) -> bool:
    return path.exists() and all(at.stat().st_mode & 0o001 for at in (path, *path.parents))


def _open_packages(entry: Path, folder: Path) -> Path:
    """Give *entry* of ``sys.path``, or a copy of what is needed of it when the plain user cannot read it."""
    if _is_open(entry) or (entry / "os.py").exists():  # the standard library is that of its own Python
        return entry
    copy = folder / f"packages-{abs(hash(str(entry)))}"
    unwanted = shutil.ignore_patterns(
        "mypy*", "pip*", "ruff*", "__pycache__", ".venv", ".git", ".agents", ".metaharness"
    )
    shutil.copytree(entry, copy, ignore=unwanted, dirs_exist_ok=True)
    return copy
