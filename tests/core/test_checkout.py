"""A checkout that is turned from one snapshot to the next is as good as a new one, whatever was done to it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_metaharness.core.folders import temporary_folder
from pytest_metaharness.core.store.checkout import Checkout
from pytest_metaharness.core.store.snapshot import Snapshot, match_transient, scan_folder
from pytest_metaharness.core.store.store import Store
from pytest_metaharness.core.worktrees import STATE, WORKSPACE, WorkTrees

Tree = dict[str, tuple[str, bytes]]  # path -> (file, program or link; content)

OLD: Tree = {
    "a.txt": ("file", b"one"),
    "same.txt": ("file", b"the same"),
    "scripts/run.sh": ("program", b"run"),
    "scripts/lib/x": ("file", b"x"),
    "link": ("link", b"a.txt"),
    "gone/deep/file": ("file", b"gone"),
    "becomes-a-folder": ("file", b"file"),
    "becomes-a-file/inner": ("file", b"inner"),
}
NEW: Tree = {
    "a.txt": ("file", b"two"),
    "same.txt": ("file", b"the same"),
    "scripts/run.sh": ("file", b"run"),
    "scripts/lib/x": ("file", b"x"),
    "link": ("link", b"same.txt"),
    "becomes-a-folder/inner": ("file", b"file"),
    "becomes-a-file": ("file", b"inner"),
}


@pytest.fixture
def place() -> Iterator[Path]:
    with temporary_folder("test") as folder:
        yield folder


@pytest.fixture
def store(place: Path) -> Iterator[Store]:
    with Store(place / "store.git") as made:
        yield made


def write_tree(folder: Path, tree: Tree) -> None:
    folder.mkdir()
    for path, (kind, content) in tree.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            file.symlink_to(os.fsdecode(content))
            continue
        file.write_bytes(content)
        file.chmod(0o755 if kind == "program" else 0o644)


def keep(store: Store, name: str, tree: Tree) -> Snapshot:
    """Store *tree* and give its snapshot."""
    source = store.folder.parent / name
    write_tree(source, tree)
    snapshot = scan_folder(source, is_transient=match_transient()).snapshot
    store.commit(f"t/{name}", snapshot, source=source, message=name)
    return snapshot


def describe(folder: Path) -> dict[str, tuple[int, object, tuple[tuple[str, bytes], ...]]]:
    """Tell all that a program can see of *folder* but times and numbers of inodes."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        content: object = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        attributes = tuple(
            (name, os.getxattr(path, name, follow_symlinks=False)) for name in os.listxattr(path, follow_symlinks=False)
        )
        found[str(path.relative_to(folder))] = (status.st_mode, content, attributes)
    return found


def have(checkout: Checkout, snapshot: Snapshot, beside: Mapping[str, bytes] | None = None) -> Path:
    checkout.turn_to(snapshot, beside)
    checkout.restore()
    return checkout.folder


def add_files(folder: Path) -> None:
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").write_text("fake")
    (folder / "scripts/extra").write_text("extra")
    (folder / "empty").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "out").symlink_to("/etc")


def replace_folder_by_link_out(folder: Path) -> None:
    outside = folder.parent / "outside"
    (outside / "lib").mkdir(parents=True)
    (outside / "run.sh").write_text("not to be touched")
    (outside / "lib/x").write_text("not to be touched")
    (folder / "scripts").rename(folder / "moved")
    (folder / "scripts").symlink_to(outside)


def keep_size_and_time(folder: Path) -> None:
    before = (folder / "same.txt").stat()
    (folder / "same.txt").write_bytes(b"THE SAME")
    os.utime(folder / "same.txt", ns=(before.st_atime_ns, before.st_mtime_ns))


def set_default_rights(folder: Path) -> None:
    os.setxattr(folder / "scripts", "user.note", b"of a folder")
    os.setxattr(folder / "same.txt", "user.note", b"of a file")


def change_modes(folder: Path) -> None:
    (folder / "same.txt").chmod(0)
    (folder / "scripts/lib").chmod(0)
    (folder / "gone").chmod(0o1777)
    (folder / "scripts").chmod(0o2755)
    folder.chmod(0o777)


def make_root_a_file(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("a file")


def make_root_a_link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


def link_hard(folder: Path) -> None:
    (folder.parent / "canary").hardlink_to(folder / "same.txt")
    (folder / "scripts/lib/x").unlink()
    (folder / "scripts/lib/x").hardlink_to(folder / "same.txt")


def move_folders(folder: Path) -> None:
    (folder / "scripts/lib").rename(folder / "lib")
    (folder / "lib").rename(folder / "scripts/lib")
    (folder / "gone").rename(folder / "scripts/gone")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _folder: None,
        add_files,
        replace_folder_by_link_out,
        keep_size_and_time,
        set_default_rights,
        change_modes,
        make_root_a_file,
        make_root_a_link,
        link_hard,
        move_folders,
    ],
)
def test_a_turned_checkout_is_as_a_new_one(place: Path, store: Store, spoil: Callable[[Path], None]) -> None:
    old, new = keep(store, "old", OLD), keep(store, "new", NEW)
    fresh = describe(have(Checkout(place / "fresh", store), new))
    assert fresh.keys() >= NEW.keys()
    checkout = Checkout(place / "checkout", store)
    spoil(have(checkout, old))
    assert describe(have(checkout, new)) == fresh
    outside = [file for file in (place / "outside").rglob("*") if file.is_file()]
    assert all(file.read_text() == "not to be touched" for file in outside)
    if (place / "canary").exists():
        assert (place / "canary").read_bytes() == b"the same"
    spoil_again = describe(have(checkout, old))
    assert spoil_again == describe(have(Checkout(place / "other", store), old))


def test_what_is_beside_the_snapshot_is_as_exact(place: Path, store: Store) -> None:
    snapshot = keep(store, "new", NEW)
    told = {"told/index": b"1 attempt", "told/c1/log": b"one", "told/c1/patch": b"", "told/same": b"one"}
    more = {"told/index": b"2 attempts", "told/c2/log": b"two", "told/same": b"one"}
    fresh = describe(have(Checkout(place / "fresh", store), snapshot, more))
    assert fresh["told/c2/log"][1] == b"two"
    checkout = Checkout(place / "checkout", store)
    told_in = have(checkout, snapshot, told) / "told"
    before = (told_in / "same").stat()
    assert describe(have(checkout, snapshot, more)) == fresh
    assert (told_in / "same").stat() == before

    (told_in / "same").write_bytes(b"two")
    (told_in / "c2/log").unlink()
    (told_in / "c2").rmdir()
    (told_in / "c2").symlink_to(place)
    assert describe(have(checkout, snapshot, more)) == fresh
    assert describe(have(checkout, snapshot)) == describe(have(Checkout(place / "without", store), snapshot))


def test_folders_that_are_always_there_are_empty_again(place: Path, store: Store) -> None:
    checkout = Checkout(place / "private", store, always=("home", "tmp"))
    fresh = describe(have(checkout, {}))
    assert fresh.keys() == {".", "home", "tmp"}
    (place / "private/home/.config").mkdir()
    (place / "private/tmp").rmdir()
    (place / "private/tmp").symlink_to(place)
    (place / "private/more").mkdir()
    assert describe(have(checkout, {})) == fresh
    assert describe(have(checkout, keep(store, "new", NEW))).keys() == {".", "home", "tmp", *describe(place / "new")}


def test_only_what_differs_is_written(place: Path, store: Store) -> None:
    old, new = keep(store, "old", OLD), keep(store, "new", NEW)
    checkout = Checkout(place / "checkout", store)
    before = (have(checkout, old) / "same.txt").stat()
    after = (have(checkout, new) / "same.txt").stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


def test_a_checkout_keeps_its_files_when_it_is_moved(place: Path, store: Store) -> None:
    old, new = keep(store, "old", OLD), keep(store, "new", NEW)
    checkout = Checkout(place / "checkout", store)
    before = (have(checkout, old) / "same.txt").stat()
    checkout.move(place / "moved")
    assert not (place / "checkout").exists()
    assert (have(checkout, new) / "same.txt").stat().st_ino == before.st_ino
    assert checkout.folder == place / "moved"


contents = st.tuples(st.sampled_from(["file", "program"]), st.binary(max_size=3))
links = st.tuples(st.just("link"), st.sampled_from([b"a", b"b/a", b"nowhere", b"/etc"]))
names = st.sampled_from(["a", "b", "a/a", "a/b", "b/a", "b/b/a", "c"])
trees = st.dictionaries(names, st.one_of(contents, contents, links), max_size=6).map(
    lambda tree: {path: kind for path, kind in tree.items() if not any(o.startswith(path + "/") for o in tree)}
)


@settings(max_examples=60, deadline=None)
@given(old=trees, made=trees, new=trees)
def test_any_tree_becomes_any_other_whatever_was_made_in_it(old: Tree, made: Tree, new: Tree) -> None:
    with temporary_folder("test") as folder, Store(folder / "store.git") as store:
        before, after = keep(store, "old", old), keep(store, "new", new)
        checkout = Checkout(folder / "checkout", store)
        spoiled = have(checkout, before)
        subprocess.run(["cp", "-a", "-T", "--remove-destination", have_tree(folder, made), spoiled], check=False)
        seen = scan_folder(spoiled, is_transient=match_transient())
        assert scan_folder(spoiled, is_transient=match_transient(), recall=checkout.recall) == seen
        assert describe(have(checkout, after)) == describe(have(Checkout(folder / "fresh", store), after))


def have_tree(folder: Path, tree: Tree) -> Path:
    write_tree(folder / "made", tree)
    return folder / "made"


def test_nothing_of_a_proposal_is_left_where_it_was(place: Path, store: Store) -> None:
    old = keep(store, "old", OLD)
    trees = WorkTrees(place, store)
    with trees.lend("c0001") as lent:
        have(trees.workspace, old)
        have(trees.state, {})
        (lent / WORKSPACE / ".venv").mkdir()
        (lent / STATE / "session").write_text("of the agent")
        first = lent
    assert not first.exists()
    assert not [path for path in place.rglob("*") if path.name in {".venv", "session"}]
    with trees.lend("c0002") as lent:
        assert have(trees.workspace, old) == lent / WORKSPACE
        assert describe(lent / WORKSPACE) == describe(have(Checkout(place / "fresh", store), old))
        assert describe(have(trees.state, {})).keys() == {"."}
