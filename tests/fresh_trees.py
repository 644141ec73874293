"""What workspaces and checkouts are when nothing of an earlier candidate is in them; and where a search had others."""

from __future__ import annotations

import json
import posixpath
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from hostile import Project
from listing import Item, Tree, describe_difference, list_tree
from sessions import Session

from pytest_metaharness.core.store.snapshot import match_transient


def find_leftovers(session: Session, project: Project, check: str) -> dict[str, list[str]]:
    """Say for each candidate in what its workspace, or its checkout as *check* saw it, was no fresh one.

    And what changed anywhere else while its backend worked.
    """
    outside = read_checkout(session, "c0000", check)["."]
    inside = read_tree(project.read_note("c0001")["before"])["."]
    sealed = give_fresh(list_tree(str(project.root / "project" / "sealed")), folder=outside)
    left: dict[str, Tree] = {"c0000": list_tree(str(project.root / "project" / "baseline"))}
    briefs: dict[str, Tree] = {}
    wrong: dict[str, list[str]] = {}
    for candidate in session.run["candidates"][1:]:
        note = project.read_note(candidate["id"])
        found = read_tree(note["before"])
        brief = {path: item for path, item in found.items() if path.split("/")[0] == ".metaharness"}
        workspace = {path: item for path, item in found.items() if path not in brief}
        problems = [f"changed elsewhere: {path}" for path in note["elsewhere"]]
        problems += describe_difference(give_fresh(left[candidate["parent"]], folder=inside), workspace)
        problems += describe_difference(briefs.setdefault(candidate["parent"], brief), brief)
        if "after" in note:
            left[candidate["id"]] = read_tree(note["after"])
            fresh = overlay(give_fresh(left[candidate["id"]], folder=outside), sealed)
            problems += describe_difference(fresh, read_checkout(session, candidate["id"], check))
        if problems:
            wrong[candidate["id"]] = problems
    return wrong


def read_tree(raw: Mapping[str, Sequence[Any]]) -> Tree:
    """Give a tree that was written as JSON."""
    return {path: Item(*values)._replace(attributes=tuple(values[5])) for path, values in raw.items()}


def read_checkout(session: Session, candidate: str, check: str) -> Tree:
    """Give the checkout of a candidate as its check saw it."""
    log = session.trial / candidate / f"check-{check}.log"
    return read_tree(json.loads(log.read_text().splitlines()[0]))


def give_fresh(left: Tree, *, folder: Item) -> Tree:
    """Give what a fresh checkout of the files of *left* is: they alone, plainly, in folders that look like *folder*."""
    is_transient = match_transient()

    def is_part(path: str) -> bool:
        folders = _folders_of(path)
        return not any(is_transient(each, True) for each in folders) and not is_transient(path, False)

    fresh: Tree = {}
    for path, item in left.items():
        if item.kind in {"file", "link"} and is_part(path):
            mode = item.mode if item.kind == "link" else "755" if int(item.mode, 8) & 0o100 else "644"
            fresh[path] = item._replace(mode=mode, owner=folder.owner, links=1, attributes=())
            fresh.update(dict.fromkeys(_folders_of(path), folder))
    return {".": folder, **fresh}


def overlay(below: Tree, above: Tree) -> Tree:
    """Lay *above* over *below*; what is in the way goes."""
    kept = {
        path: item
        for path, item in below.items()
        if not any(folder in above and above[folder].kind != "folder" for folder in _folders_of(path))
    }
    return {**kept, **above}


def _folders_of(path: str) -> list[str]:
    folders = []
    while path := posixpath.dirname(path):
        folders.append(path)
    return folders


def check_store(session: Session) -> None:
    """Fail unless all that is stored are trees of plain files and links."""
    git = ("git", f"--git-dir={session.folder / 'store.git'}")
    branches = subprocess.check_output([*git, "for-each-ref", "--format=%(refname)"], text=True).split()
    modes = {
        line.split()[0]
        for branch in branches
        for line in subprocess.check_output([*git, "ls-tree", "-r", "-z", branch]).split(b"\0")[:-1]
    }
    assert modes == {b"100644", b"100755", b"120000"}
