"""The folder of a session: made by the first of its trials, and kept from becoming one of too many."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from .core.folders import remove_abandoned_folders
from .core.runfolder import SCHEMA, decode_object, keep_space, write_atomically, write_json
from .plugin import get_options, get_session_name

KEPT_BASELINE_SESSIONS = 10
"""Unnamed sessions that only measured baselines are removed beyond these; searches never."""

RESERVE = 1024 * 1024
"""Bytes kept back for the reports, so that a full disk cannot cost them."""

SESSION_FILE = "session.json"
BASE_FILES = {
    ".gitignore": "*\n",
    "CACHEDIR.TAG": "Signature: 8a477f597d28d172789f06886806bc55\n# https://bford.info/cachedir/\n",
    "README.md": (
        "# Sessions of pytest-metaharness\n\n"
        "One folder per session: report.json, report.tsv and ledger.tsv, a folder per run, and store.git, in which\n"
        "every candidate is a commit: `git --git-dir store.git log --graph --branches`. Safe to delete.\n"
    ),
}


def open_session(config: pytest.Config) -> None:
    """Make the session's folder where it is not there yet.

    :raises OSError: it cannot be made.
    """
    directory = get_options(config).directory
    folder = directory / get_session_name(config)
    if not (folder / SESSION_FILE).exists():
        remove_abandoned_folders()
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in BASE_FILES.items():
            if not (directory / name).exists():
                write_atomically(directory / name, text.encode())
        with contextlib.suppress(FileExistsError):  # another worker was first
            keep_space(folder, RESERVE)
        write_json(folder / SESSION_FILE, describe_session(config, status="running"))


def describe_session(config: pytest.Config, *, status: str) -> dict[str, object]:
    """Give the content of ``session.json``."""
    options = get_options(config)
    return {
        "schema": SCHEMA,
        "session": get_session_name(config),
        "status": status,
        "named": options.name is not None,
        "backends": [name for name in options.names if name != "baseline"],
    }


def prune_sessions(new: Path) -> None:
    """Remove the oldest unnamed sessions beside *new* that only measured baselines; never a search.

    Names tell the age as the clock said it; *new* stays in any case.
    """
    spare: list[Path] = []
    for file in sorted(new.parent.glob(f"*/{SESSION_FILE}")):
        with contextlib.suppress(OSError):
            session = decode_object(file.read_bytes()) or {}
            if session.get("status") == "completed" and not session.get("named") and not session.get("backends"):
                spare.append(file.parent)
    excess = max(0, len(spare) - KEPT_BASELINE_SESSIONS)
    for folder in [folder for folder in spare if folder != new][:excess]:
        shutil.rmtree(folder, ignore_errors=True)  # another session may be pruning too
