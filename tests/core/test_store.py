from __future__ import annotations

import errno
import io
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_metaharness.core.errors import StoreError
from pytest_metaharness.core.folders import remove, temporary_folder
from pytest_metaharness.core.store.checkout import Checkout
from pytest_metaharness.core.store.snapshot import Snapshot, match_transient, scan_folder
from pytest_metaharness.core.store.store import LARGE, LARGE_CHANGE, Store

Tree = dict[bytes, tuple[str, bytes]]  # path -> (file, program or link; content)


def write_tree(folder: Path, tree: Tree) -> None:
    for path, (kind, content) in tree.items():
        file = os.path.join(os.fsencode(folder), path)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        if kind == "link":
            os.symlink(content, file)
            continue
        Path(os.fsdecode(file)).write_bytes(content)
        os.chmod(file, 0o755 if kind == "program" else 0o644)


def scan(folder: Path) -> Snapshot:
    return scan_folder(folder, is_transient=match_transient()).snapshot


def check_out(folder: Path, snapshot: Snapshot, store: Store) -> Checkout:
    checkout = Checkout(folder, store)
    checkout.turn_to(snapshot)
    checkout.restore()
    return checkout


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "--git-dir", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout


AWKWARD: Tree = {
    b"plain.txt": ("file", b"text\n"),
    b"crlf.txt": ("file", b"a\r\nb\rc\n\x00"),
    b".gitattributes": ("file", b"* text eol=lf ident filter=evil\n"),
    b".gitignore": ("file", b"*\n"),
    b"id.txt": ("file", b"$Id$\n"),
    b"empty": ("file", b""),
    b"with space": ("file", b" "),
    b'new\nline "quoted" \\ tab\t': ("file", b"\n"),
    b"not-utf8-\xff\xfe/inner": ("program", b"\xff"),
    b"link": ("link", b"../outside/\xff"),
    b"dangling": ("link", b"nowhere"),
    b"sub/deep/run.sh": ("program", b"#!/bin/sh\n"),
    b"git~1": ("file", b"a name that git on Windows refuses"),
    b"Case": ("file", b"upper"),
    b"case": ("file", b"lower"),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "session" / "store.git") as made:
        yield made


def test_awkward_files_survive_the_round_trip(tmp_path: Path, store: Store) -> None:
    write_tree(tmp_path / "in", AWKWARD)
    snapshot = scan(tmp_path / "in")
    assert len(snapshot) == len(AWKWARD)
    store.commit("x/c0000", snapshot, source=tmp_path / "in", message="baseline")
    check_out(tmp_path / "out", snapshot, store)
    assert scan(tmp_path / "out") == snapshot
    assert (tmp_path / "out" / "crlf.txt").read_bytes() == b"a\r\nb\rc\n\x00"
    assert git(store.folder, "fsck", "--no-dangling") == ""


def test_a_patch_applies_and_gives_exactly_the_other_tree(tmp_path: Path, store: Store) -> None:
    write_tree(tmp_path / "old", AWKWARD)
    changed: Tree = {
        **AWKWARD,
        b"plain.txt/now/a/folder": ("file", b"x"),
        b"crlf.txt": ("program", b"a\r\nB\n"),
        b"sub": ("file", b"was a folder"),
        b"link": ("file", b"was a link"),
        b"binary": ("file", bytes(range(256)) * 20),
    }
    for path in (b"plain.txt", b"sub/deep/run.sh", b"empty"):
        del changed[path]
    write_tree(tmp_path / "new", changed)
    old, new = scan(tmp_path / "old"), scan(tmp_path / "new")
    store.commit("x/c0000", old, source=tmp_path / "old", message="old")
    store.commit("x/c0001", new, source=tmp_path / "new", message="new", parent=("x/c0000", old))
    patch = io.BytesIO()
    store.write_patch(("x/c0000", old), ("x/c0001", new), patch)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "old", check=True)
    subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-"], input=patch.getvalue(), cwd=tmp_path / "old", check=True
    )
    assert scan(tmp_path / "old") == new
    assert git(store.folder, "log", "--format=%s", "x/c0001").split() == ["new", "old"]


names = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."} and name.lower() != b".git"
    and not name.endswith(b".pyc") and os.fsdecode(name) not in {".venv", "venv", ".tox", ".metaharness"}
)  # fmt: skip
kinds = st.tuples(st.sampled_from(["file", "program"]), st.binary(max_size=200))
links = st.tuples(st.just("link"), st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name))
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=3).map(b"/".join), st.one_of(kinds, kinds, links), max_size=6
)


def without_conflicts(tree: Tree) -> Tree:
    return {path: kind for path, kind in tree.items() if not any(other.startswith(path + b"/") for other in tree)}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=trees.map(without_conflicts), new=trees.map(without_conflicts))
def test_any_tree_survives_commit_checkout_and_patch(old: Tree, new: Tree) -> None:
    with temporary_folder("test") as folder, Store(folder / "store.git") as store:
        for name, tree in (("old", old), ("new", new)):
            (folder / name).mkdir()
            write_tree(folder / name, tree)
        before, after = scan(folder / "old"), scan(folder / "new")
        store.commit("t/c0000", before, source=folder / "old", message="old")
        store.commit("t/c0001", after, source=folder / "new", message="new", parent=("t/c0000", before))
        check_out(folder / "out", after, store)
        assert scan(folder / "out") == after
        patch = io.BytesIO()
        store.write_patch(("t/c0000", before), ("t/c0001", after), patch)
        if patch.getvalue():
            subprocess.run(
                ["git", "apply", "--whitespace=nowarn", "-"], input=patch.getvalue(), cwd=folder / "old", check=True
            )
        assert scan(folder / "old") == after


def test_a_checkout_is_put_back_whatever_was_done_to_it(tmp_path: Path, store: Store) -> None:
    tree: Tree = {
        b"a.txt": ("file", b"one"),
        b"scripts/run.sh": ("program", b"run"),
        b"scripts/lib/x": ("file", b"x"),
        b"link": ("link", b"a.txt"),
    }
    write_tree(tmp_path / "in", tree)
    snapshot = scan(tmp_path / "in")
    store.commit("x/c0000", snapshot, source=tmp_path / "in", message="baseline")
    out = tmp_path / "out"
    checkout = check_out(out, snapshot, store)
    checkout.restore()

    def swap_content_keeping_size_and_time() -> None:
        before = (out / "a.txt").stat()
        (out / "a.txt").write_bytes(b"two")
        os.utime(out / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))

    def replace_folder_by_link() -> None:
        (out / "scripts").rename(out / "moved")
        (out / "scripts").symlink_to("moved")

    def replace_file_by_folder() -> None:
        (out / "a.txt").unlink()
        (out / "a.txt").mkdir()
        (out / "a.txt" / "x").write_text("x")

    def delete_all() -> None:
        remove(out)

    def close_folder() -> None:
        (out / "scripts" / "run.sh").chmod(0o644)
        (out / "scripts").chmod(0)

    def replace_by_hard_link() -> None:
        (out / "made").write_text("two")
        (out / "a.txt").unlink()
        (out / "a.txt").hardlink_to(out / "made")

    for spoil in (
        swap_content_keeping_size_and_time,
        replace_folder_by_link,
        replace_file_by_folder,
        delete_all,
        close_folder,
        replace_by_hard_link,
    ):
        spoil()
        checkout.restore()
        found = scan(out)
        assert {path: found[path] for path in snapshot} == snapshot, spoil.__name__
        assert not (out / "scripts").is_symlink()
    (out / "made.txt").write_text("made by a check")
    checkout.restore()
    assert (out / "made.txt").exists()


def test_identical_content_is_stored_once(tmp_path: Path, store: Store) -> None:
    write_tree(tmp_path / "in", {b"f%d" % number: ("file", os.urandom(2000)) for number in range(150)})
    snapshot = scan(tmp_path / "in")
    store.commit("a/c0000", snapshot, source=tmp_path / "in", message="a")
    size = sum(file.stat().st_size for file in store.folder.rglob("*") if file.is_file())
    for name in "bcdefgh":
        store.commit(f"{name}/c0000", snapshot, source=tmp_path / "in", message=name)
    grown = sum(file.stat().st_size for file in store.folder.rglob("*") if file.is_file()) - size
    assert grown < 20_000


def test_a_file_that_changed_since_its_scan_is_an_error(tmp_path: Path, store: Store) -> None:
    write_tree(tmp_path / "in", {b"a": ("file", b"long content")})
    snapshot = scan(tmp_path / "in")
    (tmp_path / "in" / "a").write_bytes(b"short")
    with pytest.raises(StoreError, match="a changed while it was stored"):
        store.commit("x/c0000", snapshot, source=tmp_path / "in", message="baseline")


def test_a_foreign_folder_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "store.git").mkdir()
    (tmp_path / "store.git" / "something").write_text("else")
    with pytest.raises(StoreError, match="is no session store"):
        Store(tmp_path / "store.git")


def test_missing_git_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError, match="git was not found"):
        Store(tmp_path / "store.git")


def test_what_a_broken_git_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\necho 'fatal: scripted' >&2\nexit 128\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError, match=r"/session/store\.git: git could not init: fatal: scripted$"):
        Store(tmp_path / "session" / "store.git")
    assert list((tmp_path / "session").iterdir()) == []


def test_a_store_that_cannot_be_put_in_place_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self), None, str(target))

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space left on device"):
        Store(tmp_path / "session" / "store.git")
    assert list((tmp_path / "session").iterdir()) == []


def test_what_cannot_be_compressed_is_stored_as_it_is(tmp_path: Path, store: Store) -> None:
    large = os.urandom(LARGE)
    write_tree(tmp_path / "in", {b"large": ("file", large), b"small": ("file", b"small")})
    snapshot = scan(tmp_path / "in")
    store.commit("x/c0000", snapshot, source=tmp_path / "in", message="baseline")
    assert store.read(snapshot["large"].blob) == large
    assert git(store.folder, "fsck", "--no-dangling") == ""
    (pack,) = store.folder.glob("objects/pack/*.pack")
    assert large[1000:2000] in pack.read_bytes()


def test_the_patch_of_a_large_change_holds_whole_files(tmp_path: Path, store: Store) -> None:
    for name in ("old", "new"):  # lines that occur everywhere: to compare such files takes longer than any timeout
        lines = (bytes(random.Random(name).choices(b"ab", k=2)) for _ in range(LARGE_CHANGE // 3))
        write_tree(tmp_path / name, {b"large": ("file", b"\n".join(lines)), b"small": ("file", name.encode())})
    old, new = scan(tmp_path / "old"), scan(tmp_path / "new")
    store.commit("x/c0000", old, source=tmp_path / "old", message="old")
    store.commit("x/c0001", new, source=tmp_path / "new", message="new", parent=("x/c0000", old))
    patch = io.BytesIO()
    store.write_patch(("x/c0000", old), ("x/c0001", new), patch)
    assert patch.getvalue().count(b"GIT binary patch") == 2
    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "old", check=True)
    subprocess.run(["git", "apply", "-"], input=patch.getvalue(), cwd=tmp_path / "old", check=True)
    assert scan(tmp_path / "old") == new
