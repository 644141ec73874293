"""The folders in which one trial works: the workspace of its backend and the checkout of its checks.

Both are kept from one candidate to the next, so that each costs what it changes; neither ever shows anything of an
earlier one, nor of each other.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from .folders import remove
from .store.checkout import Checkout
from .store.snapshot import Snapshot
from .store.store import Store

WORKSPACE, STATE = "workspace", "state"


class WorkTrees:
    """The folders below *folder*, filled from *store*; *private* is where each check has its home."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self.workspace = Checkout(folder / "idle", store)
        self.checkout = Checkout(folder / "checkout", store)
        self.private = folder / "private"

    @contextlib.contextmanager
    def lend_workspace(self, candidate: str, snapshot: Snapshot) -> Iterator[Path]:
        """Give a folder that has *snapshot* in ``workspace``, beside an empty ``state``.

        Afterwards nothing is where it was: a candidate that relies on what was left there is not measured with it.
        """
        place = self._folder / candidate
        (place / STATE).mkdir(parents=True, mode=0o700)
        self.workspace.move(place / WORKSPACE)
        self.workspace.turn_to(snapshot)
        self.workspace.restore()
        try:
            yield place
        finally:
            self.workspace.turn_to(snapshot)
            self.workspace.move(self._folder / secrets.token_hex(8))
            remove(place)
