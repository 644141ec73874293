"""What a proposal may not do to the files: leave its write scope, lose a required file, carry a secret."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .model import Target
from .redaction import Redactor
from .store.snapshot import CHUNK, Scan, find_links_out, match_scope, open_regular, show_path

SHOWN = 5
"""Paths that a reason lists before it only counts."""


def find_scope_violation(target: Target, before: Scan, after: Scan, changed: Sequence[str]) -> str | None:
    """Say which of the *changed* paths lie outside the target's write scope, or which links newly lead out of it."""
    allows = match_scope(target.editable)
    outside = [
        f"{'deleted' if path not in after.snapshot else 'added' if path not in before.snapshot else 'changed'} "
        f"{show_path(path)}"
        for path in changed
        if not allows(path)
    ]
    if outside:
        return f"{_list(outside)}; only {', '.join(target.editable or ())} may be changed"
    links = find_links_out(after.links) - find_links_out(before.links)
    if links:
        return f"links that lead out of the workspace: {_list([show_path(path) for path in sorted(links)])}"
    return None


def find_missing(target: Target, scan: Scan) -> str | None:
    """Say which required files *scan* lacks."""
    missing = [path for path in target.required if path not in scan.snapshot]
    return f"required files are missing: {_list(missing)}" if missing else None


def find_secret(scan: Scan, paths: Iterable[str], folder: Path, redactor: Redactor) -> str | None:
    """Say which of the files *paths* of *folder* holds a secret, in its content, its name or its link's target.

    :raises OSError: a file cannot be read.
    """
    for path in paths:
        if path in scan.snapshot and (name := redactor.find(_read(folder, path, scan))):
            return f"{redactor.text(show_path(path))} holds the value of {name}"
    return None


def _read(folder: Path, path: str, scan: Scan) -> Iterator[bytes]:
    yield os.fsencode(path) + b"\n"
    if path in scan.links:
        yield os.fsencode(scan.links[path])
        return
    with open_regular(folder / path) as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _list(items: Sequence[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
