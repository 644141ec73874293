"""A baseline from git that cannot be had: each reason is an error of the item that says what to do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from repositories import GIT, commit, git, wrap_git
from sessions import run_session, serial_and_xdist, write_files

TARGET = "goal: x\nchecks: {{a: {{contains: {{path: a.txt, all: [a]}}}}}}\nbaseline: {baseline}\n"
HEAD = "{git: HEAD}"

Case = Callable[[Path], str]
"""Makes a repository in a folder, and gives the target's baseline."""


def well(root: Path) -> str:
    make(root)
    return HEAD


def no_repository(root: Path) -> str:
    return HEAD


def nothing_committed(root: Path) -> str:
    git(root, "init", "-q")
    return HEAD


def unknown_revision(root: Path) -> str:
    make(root)
    return "{git: v9}"


def no_commit(root: Path) -> str:
    make(root)
    return "{git: 'HEAD:a.txt'}"


def shallow(root: Path) -> str:
    source = root / "source"
    make(source)
    commit(source, {"b.txt": ""})
    git(root, "clone", "-q", "--depth=1", source.as_uri(), "clone")
    replace_by(root, "clone")
    return "{git: HEAD~1}"


def partial(root: Path) -> str:
    source = root / "source"
    make(source)
    git(source, "config", "uploadpack.allowFilter", "true")
    git(root, "clone", "-q", "--no-checkout", "--filter=blob:none", source.as_uri(), "clone")
    replace_by(root, "clone")
    return HEAD


def damaged(root: Path) -> str:
    make(root)
    blob = git(root, "rev-parse", "HEAD:a.txt").decode()
    (root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    return HEAD


def no_such_folder(root: Path) -> str:
    make(root)
    return "{git: HEAD, path: src/inner}"


def a_file(root: Path) -> str:
    make(root)
    return "{git: HEAD, path: a.txt}"


def a_link(root: Path) -> str:
    make(root)
    (root / "link").symlink_to("nowhere")
    commit(root, {})
    return "{git: HEAD, path: link}"


def in_the_sealed_folder(root: Path) -> str:
    make(root, **{"src/x/a.txt": ""})
    return "{git: HEAD, path: src/x}\nsealed: src"


def bare(root: Path) -> str:
    git(root, "init", "-q", "--bare")
    return HEAD


def sha256(root: Path) -> str:
    git(root, "init", "-q", "--object-format=sha256")
    commit(root, {"a.txt": ""})
    return HEAD


def not_readable_by_git(root: Path) -> str:
    make(root)
    git(root, "config", "core.repositoryFormatVersion", "9")
    return HEAD


def forged(root: Path) -> str:
    make(root)
    blob = bytes.fromhex(git(root, "rev-parse", "HEAD:a.txt").decode())
    tree = make_object(root, "tree", b"100644 x\0" + blob)
    tree = make_object(root, "tree", b"40000 ..\0" + bytes.fromhex(tree))
    return f"{{git: {git(root, 'commit-tree', '-m', 'x', tree).decode()}}}"


def forged_twice(root: Path) -> str:
    make(root)
    blob = bytes.fromhex(git(root, "rev-parse", "HEAD:a.txt").decode())
    inner = bytes.fromhex(make_object(root, "tree", b"100644 x\0" + blob))
    tree = make_object(root, "tree", b"100644 a\0" + blob + b"40000 a\0" + inner)
    return f"{{git: {git(root, 'commit-tree', '-m', 'x', tree).decode()}}}"


def forged_link(root: Path) -> str:
    make(root)
    blob = make_object(root, "blob", b"a\0b")
    tree = make_object(root, "tree", b"120000 a\0" + bytes.fromhex(blob))
    return f"{{git: {git(root, 'commit-tree', '-m', 'x', tree).decode()}}}"


def make(root: Path, **files: str) -> None:
    root.mkdir(exist_ok=True)
    git(root, "init", "-q")
    commit(root, {"a.txt": "a", **files})


def make_object(root: Path, kind: str, content: bytes) -> str:
    command = [*GIT, "hash-object", "-t", kind, "-w", "--literally", "--stdin"]
    return subprocess.run(command, cwd=root, input=content, capture_output=True, check=True).stdout.decode().strip()


def replace_by(root: Path, folder: str) -> None:
    """Let *root* be what is in its *folder*."""
    for file in (root / folder).iterdir():
        shutil.move(file, root / file.name)


CASES: dict[Case, str] = {
    no_repository: "no git repository encloses {root} (git: fatal: not a git *); commit the files to one, or let *",
    nothing_committed: "the repository {root} has no commit 'HEAD': nothing is committed yet",
    unknown_revision: "the repository {root} has no commit 'v9'; is it spelled right, and fetched?",
    no_commit: "the repository {root} has no commit 'HEAD:a.txt'; *",
    shallow: "the repository {root} has no commit 'HEAD~1': the clone is shallow, * `git fetch --unshallow` *",
    partial: "the repository {root} lacks object *: a partial clone fetches files when * clone in full; *",
    damaged: "the repository {root} lacks object *; else it is damaged (`git fsck`)",
    no_such_folder: "commit * of {root} has the folder 'src/inner' not at all",
    a_file: "commit * of {root} has the folder 'a.txt' as a file",
    a_link: "commit * of {root} has the folder 'link' as a link",
    in_the_sealed_folder: "its files lie in the sealed folder 'src': they must lie apart",
    bare: "{root} is in a bare repository or a .git folder: put the target into a clone with a work tree",
    sha256: "the repository around {root} names its objects by SHA-256: only SHA-1 is supported",
    not_readable_by_git: "git cannot read the repository around {root}: fatal: *9*",
    forged: "commit * of {root} has a path that no checkout can have: '../x'",
    forged_twice: "commit * of {root} has a path that no checkout can have: 'a'",
    forged_link: "a is a link that no checkout can have",
}


@serial_and_xdist
def test_the_reason_is_an_error_of_the_item(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    for case in CASES:
        make_target(pytester.mkdir(case.__name__), case)
    session = run_session(pytester, *workers)
    session.result.assert_outcomes(failed=len(CASES))
    assert "Traceback" not in session.output
    reasons = {run["target"]: run["reason"] for run in session.runs}
    for case, expected in CASES.items():
        name = case.__name__
        text = expected.replace("{root}", str(pytester.path / name)).replace("[", "[[]")
        pytest.LineMatcher([reasons[name]]).fnmatch_lines([f"the baseline of {name} (git *): {text}"])
        assert reasons[name] in session.result.outlines, "on a line of its own, in full"
    assert {run["status"] for run in session.runs} == {"failed"}


def test_git_is_missing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    make_target(pytester.path, well)
    monkeypatch.setenv("PATH", str(pytester.path))
    session = run_session(pytester, "metaharness.yaml")
    session.result.assert_outcomes(failed=1)
    assert session.run["reason"] == "git was not found on PATH: install it; candidates are stored as git commits"


def test_a_repository_of_another_user_is_read_once_it_is_trusted(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pytester.path
    make_target(root, well)
    wrap_git(root / "bin", monkeypatch, "export GIT_TEST_ASSUME_DIFFERENT_OWNER=1")
    session = run_session(pytester, "metaharness.yaml")
    advice = f"git config --global --add safe.directory {root}"
    assert session.run["reason"] == (
        f"the baseline of {root.name} (git HEAD): the repository around {root} belongs to another user, "
        f"so git does not read it; if you trust it, run: {advice}"
    )
    subprocess.run(advice.split(), check=True)
    pytester.runpytest_subprocess("metaharness.yaml").assert_outcomes(passed=1)


def test_a_path_that_leads_out_is_a_mistake_in_the_file(pytester: pytest.Pytester) -> None:
    paths = ("..", "../x", "/src", "a/../../b")
    for number, path in enumerate(paths):
        text = TARGET.format(baseline=f"{{git: HEAD, path: {path}}}")
        write_files(pytester.path, {f"{number}.metaharness.yaml": text})
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=len(paths))
    result.stdout.fnmatch_lines([f"{number}.metaharness.yaml:3: baseline.path: must *" for number in range(len(paths))])


def make_target(folder: Path, case: Case) -> None:
    write_files(folder, {"metaharness.yaml": TARGET.format(baseline=case(folder))})
