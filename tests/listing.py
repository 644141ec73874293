"""List a folder completely, to see whether it is exactly as it should be; plain Python, so that checks can do it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection
from typing import NamedTuple


class Item(NamedTuple):
    """What is at one path: everything but times and places on the disk."""

    kind: str
    mode: str
    owner: str
    links: int
    content: str
    """Of a file the digest, of a link the target."""
    attributes: tuple[str, ...]


Tree = dict[str, Item]
"""Path -> what is there; the folder itself is ``.``."""


def list_tree(folder: str, *, without: Collection[str] = ()) -> Tree:
    """Read all that is in *folder*, but for the paths *without* and what is below them."""
    found: Tree = {}
    pending = ["."]
    while pending:
        path = pending.pop()
        if path in without:
            continue
        place = os.path.join(folder, path)
        found[path] = item = _read_item(place)
        if item.kind == "folder":
            pending += [name if path == "." else f"{path}/{name}" for name in os.listdir(place)]
    return dict(sorted(found.items()))


def _read_item(place: str) -> Item:
    status = os.lstat(place)
    kinds = {stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFLNK: "link"}
    kind = kinds.get(stat.S_IFMT(status.st_mode), "other")
    content = ""
    if kind == "link":
        content = os.readlink(place)
    elif kind == "file":
        try:
            with open(place, "rb") as file:
                content = hashlib.file_digest(file, "sha1").hexdigest()
        except PermissionError:
            content = "unreadable"
    names = os.listxattr(place, follow_symlinks=False) if hasattr(os, "listxattr") else []
    return Item(
        kind=kind,
        mode=f"{stat.S_IMODE(status.st_mode):o}",
        owner=f"{status.st_uid}:{status.st_gid}",
        links=0 if kind == "folder" else status.st_nlink,
        content=content,
        attributes=tuple(f"{name}={os.getxattr(place, name, follow_symlinks=False)!r}" for name in sorted(names)),
    )


def describe_difference(expected: Tree, found: Tree) -> list[str]:
    """Name the paths that differ, with what is wrong."""
    return [
        f"{path!a}: expected {expected.get(path)}, found {found.get(path)}"
        for path in sorted(expected.keys() | found.keys())
        if expected.get(path) != found.get(path)
    ]
