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
from .store.store import Store

WORKSPACE, STATE = "workspace", "state"


class WorkTrees:
    """The folders below *folder*, filled from *store*.

    *workspace* and *state*, which is empty, are for a backend; *checkout* and *private*, which has but a home and a
    temporary folder, for checks.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self.workspace = Checkout(folder / "idle", store)
        self.state = Checkout(folder / "idle-state", store)
        self.checkout = Checkout(folder / "checkout", store)
        self.private = Checkout(folder / "private", store, always=("home", "tmp"))

    @contextlib.contextmanager
    def lend(self, candidate: str) -> Iterator[Path]:
        """Give a folder that has ``workspace`` and ``state`` and nothing else.

        Afterwards nothing is where it was: a candidate that relies on what was left there is not measured with it.
        """
        place = self._folder / candidate
        place.mkdir(mode=0o700)
        self.workspace.move(place / WORKSPACE)
        self.state.move(place / STATE)
        try:
            yield place
        finally:
            for tree in (self.workspace, self.state):
                tree.sweep()
                tree.move(self._folder / secrets.token_hex(8))
            remove(place)
