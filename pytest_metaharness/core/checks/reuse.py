"""The evaluations of a session: equal files under equal checks are measured once, over all workers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ..model import Check, CheckRecord
from ..once import compute_once
from ..store.snapshot import Snapshot

Records = tuple[CheckRecord, ...]


class Evaluations:
    """The finished evaluations of one session, a file each in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def give(
        self,
        checks: Sequence[Check],
        *,
        snapshot: Snapshot,
        sealed: Snapshot,
        context: str,
        measure: Callable[[], Records],
    ) -> Records:
        """Give the records of *checks* for the files of *snapshot*, marked as reused when they were known.

        Else *measure* is called; who needs the same meanwhile, in another process too, waits for its result. *context*
        names what else the values may depend on. Nothing is kept of a check that is not reusable, or when *measure*
        raises.
        """
        if not all(check.is_reusable for check in checks):
            return measure()
        file = self._folder / f"{_make_key(checks, snapshot, sealed, context)}.json"
        found = compute_once(file, Records, measure)
        records: Records = found.value
        if not found.was_known:
            return records
        return tuple(msgspec.structs.replace(record, reused=True) for record in records)


def _make_key(checks: Sequence[Check], snapshot: Snapshot, sealed: Snapshot, context: str) -> str:
    files = [
        [(path.encode("utf-8", "surrogateescape"), entry.mode, entry.blob) for path, entry in sorted(tree.items())]
        for tree in (snapshot, sealed)
    ]
    return hashlib.sha256(msgspec.msgpack.encode((list(checks), files, context))).hexdigest()[:40]
