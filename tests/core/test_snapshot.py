from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from pytest_metaharness.core.model import Limits
from pytest_metaharness.core.store.snapshot import (
    Entry,
    check_bounds,
    diff_snapshots,
    find_links_out,
    match_scope,
    match_transient,
    overlay,
    scan_folder,
    set_bounds,
    show_path,
)


def test_blob_ids_are_those_of_git(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\n")
    scan = scan_folder(tmp_path, is_transient=match_transient())
    told = subprocess.run(
        ["git", "hash-object", "--no-filters", "a.txt"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert scan.snapshot["a.txt"] == Entry("100644", told.stdout.strip(), 9)


def test_modes_and_links_are_kept_and_links_are_never_followed(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("x")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "away").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    scan = scan_folder(tmp_path, is_transient=match_transient())
    assert {path: entry.mode for path, entry in scan.snapshot.items()} == {
        "away": "120000",
        "folder": "120000",
        "run.sh": "100755",
    }
    assert scan.links == {"away": "/etc/passwd", "folder": "/etc"}


def test_what_no_snapshot_can_hold_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "sub" / ".git").mkdir(parents=True)
    (tmp_path / "sub" / "x.pyc").write_text("")
    (tmp_path / "sub" / "x.py").write_text("")
    scan = scan_folder(tmp_path, is_transient=match_transient())
    assert list(scan.snapshot) == ["sub/x.py"]
    assert scan.left_out == (".venv/", "fifo", "socket", "sub/.git/", "sub/x.pyc")


def test_own_transient_patterns_are_those_of_gitignore(tmp_path: Path) -> None:
    for path in ("build/a", "deep/build/b", "keep/c.log", "keep/d.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    scan = scan_folder(tmp_path, is_transient=match_transient(["build/", "*.log"]))
    assert list(scan.snapshot) == ["keep/d.txt"]


def test_a_file_without_read_permission_is_read(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "x").write_text("x")
    (tmp_path / "closed" / "x").chmod(0)
    (tmp_path / "closed").chmod(0)
    assert list(scan_folder(tmp_path, is_transient=match_transient()).snapshot) == ["closed/x"]


def test_a_rename_shows_as_both_of_its_paths() -> None:
    one = Entry("100644", "0" * 40, 1)
    assert diff_snapshots({"a": one, "same": one}, {"b": one, "same": one}) == ("a", "b")


def test_a_mode_change_is_a_change() -> None:
    one = Entry("100644", "0" * 40, 1)
    assert diff_snapshots({"a": one}, {"a": one._replace(mode="100755")}) == ("a",)


@pytest.mark.parametrize(
    ("links", "out"),
    [
        ({"a": "b"}, set()),
        ({"d/a": "../b"}, set()),
        ({"a": "../b"}, {"a"}),
        ({"a": "/etc"}, {"a"}),
        ({"a": "d/../../x"}, {"a"}),
        ({"d/up": "..", "a": "d/up/../x"}, {"a"}),
        ({"a": "a"}, {"a"}),
        ({"deep/e": "../f", "a": "deep/e/../g"}, set()),
    ],
)
def test_links_that_lead_out_are_found_through_other_links(links: dict[str, str], out: set[str]) -> None:
    assert find_links_out(links) == out


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("AGENTS.md", True),
        ("docs/AGENTS.md", False),
        ("scripts/a/b.sh", True),
        ("scripts", False),
        ("other/scripts/a.sh", False),
        ("skills/x/SKILL.md", True),
        ("skills/x/y/SKILL.md", False),
        ("any/where/notes.txt", True),
    ],
)
def test_write_scope_is_anchored_at_the_root(path: str, allowed: bool) -> None:
    allows = match_scope(["AGENTS.md", "./scripts/", "skills/*/SKILL.md", "**/notes.txt"])
    assert allows(path) is allowed


def test_overlay_wins_over_files_in_the_way_of_its_folders_and_the_other_way_round() -> None:
    low, high = Entry("100644", "1" * 40, 1), Entry("100644", "2" * 40, 1)
    link = Entry("120000", "3" * 40, 1)
    below = {"evaluation": link, "a/b": low, "keep": low, "same": low}
    assert overlay(below, {"evaluation/x.py": high, "a": high, "same": high}) == {
        "a": high,
        "evaluation/x.py": high,
        "keep": low,
        "same": high,
    }


def test_paths_are_shown_without_control_characters() -> None:
    assert show_path("a\nb\x1b[31m\udcff") == "a\\nb\\x1b[31m\\xff"


def test_a_baseline_that_reaches_a_default_limit_may_grow_a_little() -> None:
    large = {"big": Entry("100644", "0" * 40, 600_000_000)}
    bounds = set_bounds(Limits(), large)
    assert (bounds.file_bytes, bounds.total_bytes, bounds.files) == (660_000_000, 660_000_000, 20_000)
    check_bounds({**large, "note": Entry("100644", "1" * 40, 10)}, bounds)
    assert set_bounds(Limits(total_mb=1), large).total_bytes == 1_000_000
