"""A baseline that is what git tracks: the user's own repository, its target among its files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from repositories import GIT, Tree, commit, git, list_tree, wrap_git
from sessions import Session, run_session, serial_and_xdist, write_files

TARGET = """
goal: Say how to work here.
baseline: {baseline}
sealed: evaluation
checks:
  names-tests: {{contains: {{path: AGENTS.md, all: [run the tests]}}}}
  sealed: {{run: bash judge.sh}}
"""
FAKE = """
proposals:
  - files:
      AGENTS.md: run the tests
      docs/caf\u00e9 and more.md: "a new file\\r\\n"
      .harness/metaharness.yaml: a target that is always content
      .harness/evaluation/judge.sh: exit 0
    modes: {scripts/run.sh: "755"}
    delete: [src/old.py]
"""
FILES = {
    "AGENTS.md": "nothing yet\n",
    "src/new.py": "print()\n",
    "src/old.py": "",
    "scripts/run.sh": "exit 0\n",
    "notes.txt": "kept\n",
    ".harness/metaharness.yaml": TARGET.format(baseline="{git: HEAD}"),
    ".harness/fake.yaml": FAKE,
    ".harness/README.md": "about the target\n",
    ".harness/evaluation/judge.sh": "test -x scripts/run.sh && test ! -e .harness/metaharness.yaml\n",
}


def read_candidate(session: Session, candidate: str) -> Tree:
    return list_tree(session.folder / "store.git", f"refs/heads/{session.trial.name}/{candidate}")


def without(tree: Tree, *starts: bytes) -> Tree:
    return {path: head for path, head in tree.items() if not path.startswith(starts)}


OWN = (b".harness/metaharness.yaml", b".harness/fake.yaml", b".harness/evaluation/")


@pytest.fixture
def root(pytester: pytest.Pytester) -> Path:
    """A repository with a target in ``.harness``."""
    git(pytester.path, "init", "-q")
    commit(pytester.path, FILES)
    (pytester.path / ".git" / "info" / "exclude").write_text(".metaharness/\n")
    return pytester.path


@serial_and_xdist
def test_the_own_repository_is_measured_and_improved(
    pytester: pytest.Pytester, root: Path, workers: tuple[str, ...]
) -> None:
    head = git(root, "rev-parse", "HEAD").decode()
    write_files(root, {"AGENTS.md": "run the tests, uncommitted\n", "staged.txt": "", "untracked.txt": ""})
    git(root, "add", "staged.txt")
    session = run_session(pytester, "--metaharness=fake", ".harness", *workers)
    session.result.assert_outcomes(passed=1)
    assert session.run["settings"]["baseline"] == {"value": head, "from": "git HEAD"}
    assert read_candidate(session, "c0000") == without(list_tree(root, head), *OWN), "nothing that is not committed"
    assert (session.run["baseline"], session.run["best"]) == (0, 1)
    changed = ["AGENTS.md", "docs/caf\u00e9 and more.md", "scripts/run.sh", "src/old.py"]
    assert session.run["changed_files"] == changed, "what rules the measurement is none of the backend's files"
    git(root, "reset", "-q", "--hard")
    git(root, "apply", "--index", str(session.trial / "best.patch"))
    after = list_tree(root, git(root, "write-tree").decode())
    assert without(after, *OWN) == read_candidate(session, "best")
    assert {path: after[path] for path in after if path.startswith(OWN)} == {
        path: head for path, head in list_tree(root, "HEAD").items() if path.startswith(OWN)
    }


def test_a_folder_of_the_repository(pytester: pytest.Pytester, root: Path) -> None:
    target = (
        TARGET.format(baseline="{git: v1, path: './:(x) pl\u00e4ce/inner/'}")
        + "required: [AGENTS.md]\neditable: [AGENTS.md, src/]\n"
    )
    inner = root / ":(x) pl\u00e4ce" / "inner"
    proposals = "[{files: {AGENTS.md: run the tests}, modes: {src/a.py: '755'}, delete: [src/b.py]}, {files: {b: x}}]"
    commit(root, {".harness/metaharness.yaml": target, ".harness/fake.yaml": f"proposals: {proposals}"})
    tagged = commit(inner, {"AGENTS.md": "nothing\n", "src/a.py": "", "src/b.py": ""})
    git(root, "tag", "-a", "-m", "x", "v1")
    (inner / "src" / "late.py").write_text("")
    commit(root, {})
    session = run_session(pytester, "--metaharness=fake", "--metaharness-budget=2", ".harness")
    assert [one["outcome"] for one in session.run["candidates"]] == ["baseline", "keep", "scope-violation"]
    assert sorted(read_candidate(session, "c0000")) == [b"AGENTS.md", b"src/a.py", b"src/b.py"]
    assert session.run["settings"]["baseline"] == {"value": tagged, "from": "git v1, path :(x) pl\u00e4ce/inner"}
    git(root, "checkout", "-q", "v1")
    git(root, "apply", "--index", str(session.trial / "best.patch"))
    assert list_tree(root, git(root, "write-tree", "--prefix=:(x) pl\u00e4ce/inner").decode()) == read_candidate(
        session, "best"
    )


def test_collection_from_the_root(pytester: pytest.Pytester, root: Path) -> None:
    def collect(*args: str) -> list[str]:
        return [line for line in pytester.runpytest_subprocess("--co", "-q", *args).outlines if "::" in line]

    tests = {f"{folder}/test_{folder}.py": "def test(): pass" for folder in ("tests", "baseline", "evaluation")}
    write_files(root, tests)
    own = ["baseline/test_baseline.py::test", "evaluation/test_evaluation.py::test", "tests/test_tests.py::test"]
    assert collect() == own, "pytest itself passes over folders with a dot; see the other tests for `pytest .harness`"
    shutil.copy(root / ".harness" / "metaharness.yaml", root)
    assert collect() == [own[0], "metaharness.yaml::baseline", own[2]], "only what is sealed is excluded"


def test_what_rules_the_measurement_is_no_part_of_the_candidate(pytester: pytest.Pytester, root: Path) -> None:
    commit(root, {".harness/old.metaharness.yaml": "sealed: [broken", ".harness/evaluation/judge.sh": "exit 1"})
    (root / ".harness" / "older.metaharness.yaml").write_text("goal: x\nsealed: hidden\n")
    commit(root, {".harness/hidden/a": "", "tests/judge.sh": "exit 1", ".metaharness/log": "", "sessions/log": ""})
    shutil.rmtree(root / ".harness" / "evaluation")
    (root / ".harness" / "evaluation").symlink_to("../tests")
    write_files(root / ".harness", {"new.metaharness.yaml": "sealed: README.md", "older.metaharness.yaml": "goal: x"})
    args = ("--metaharness-dir=sessions", "--metaharness-name=x", ".harness/metaharness.yaml")
    session = Session(result=pytester.runpytest_subprocess(*args), folder=root / "sessions" / "x")
    assert sorted(without(list_tree(root, "HEAD"), *read_candidate(session, "c0000"))) == [
        b".harness/README.md",
        b".harness/evaluation/judge.sh",
        b".harness/fake.yaml",
        b".harness/hidden/a",
        b".harness/metaharness.yaml",
        b".harness/old.metaharness.yaml",
        b".harness/older.metaharness.yaml",
        b".metaharness/log",
        b"sessions/log",
        b"tests/judge.sh",
    ]


def test_bytes_modes_links_and_names_are_as_committed(pytester: pytest.Pytester, root: Path) -> None:
    names = [b"new\nline", b"not-utf8-\xff/\xfe", b'"quoted" \\ tab\t', b"with space ", b"-option", b":(top)x"]
    for name in names:
        os.makedirs(os.path.dirname(os.fsencode(root) + b"/" + name), exist_ok=True)
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(name)
    commit(root, {"crlf.txt": "", ".gitignore": "*\n"})
    (root / ".gitattributes").write_text("* text=auto eol=crlf ident filter=evil\n")
    (root / "crlf.txt").write_bytes(b"a\r\nb\n$Id$\0")
    (root / "run").write_text("")
    (root / "run").chmod(0o755)
    os.symlink(b"../\xff", os.fsencode(root) + b"/link")
    git(root, "-c", "filter.evil.clean=cat", "add", "-A", "-f")
    old = git(root, "write-tree").decode()
    blob = git(root, "rev-parse", f"{old}:notes.txt").decode()
    entries = git(root, "ls-tree", "-z", old) + f"100775 blob {blob}\tgroup-writable\0".encode()
    forged = subprocess.run([*GIT, "mktree", "-z"], cwd=root, input=entries, capture_output=True, check=True).stdout
    made = git(root, "commit-tree", "-m", "x", forged.decode().strip()).decode()
    git(root, "config", "filter.evil.smudge", "tr a b")
    write_files(root, {".harness/metaharness.yaml": TARGET.format(baseline=f"{{git: {made}}}")})
    session = run_session(pytester, ".harness")
    expected = without(list_tree(root, made), *OWN)
    assert set(names) < set(expected)
    expected[b"group-writable"] = expected[b"group-writable"].replace(b"100775", b"100755")
    assert read_candidate(session, "c0000") == expected


def test_transient_files_submodules_and_pointers_are_told_of(pytester: pytest.Pytester, root: Path) -> None:
    git(pytester.mkdir("other"), "init", "-q")
    commit(root / "other", {"a.txt": "of the submodule"})
    git(root, "submodule", "--quiet", "add", "./other", "vendor/lib")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12\n"
    shutil.rmtree(root / "other")
    write_files(root, dict.fromkeys(("venv/x", "a/__pycache__/b/c.py", "a/b.pyc", "a/c", "build/x"), ""))
    commit(
        root,
        {
            "big.bin": pointer,
            ".harness/metaharness.yaml": f"transient: [build/]{FILES['.harness/metaharness.yaml']}",
            ".harness/fake.yaml": "proposals: [{files: {vendor/lib/new.c: x}}]",
        },
    )
    session = run_session(pytester, "--metaharness=fake", ".harness")
    session.result.stdout.fnmatch_lines_random(
        [
            "*.harness: submodules are no part of the baseline: vendor/lib",
            "*.harness: git-lfs pointers stand for their files in the baseline: big.bin",
            "*.harness: left out of the baseline, * no regular file: a/__pycache__/, a/b.pyc, build/, venv/",
        ]
    )
    tree = read_candidate(session, "c0000")
    assert sorted(without(tree, b".harness", *map(str.encode, FILES))) == [b".gitmodules", b"a/c", b"big.bin"]
    assert git(session.folder / "store.git", "cat-file", "blob", tree[b"big.bin"].split()[-1].decode()).decode() == (
        pointer.strip()
    )
    assert session.candidate(1)["outcome"] == "no-change", "a patch cannot change what a submodule holds"


def test_nothing_of_the_repository_is_run_or_written(
    pytester: pytest.Pytester, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look() -> dict[str, tuple[int, int]]:
        return {str(file): (file.stat().st_mtime_ns, file.stat().st_size) for file in root.rglob(".git/**/*")}

    evil = root / "evil"
    evil.write_text(f"#!/bin/sh\ntouch '{root}/was-run'\n")
    evil.chmod(0o755)
    for number in range(300):
        (root / f"file-{number}").write_text(str(number))
    commit(root, {})
    for key in ("core.fsmonitor", "core.sshCommand", "core.gitProxy", "diff.external", "core.pager", "core.hooksPath"):
        git(root, "config", key, str(evil))
    monkeypatch.setenv("GIT_DIR", str(root / "elsewhere"))  # as in a git hook
    monkeypatch.setenv("GIT_WORK_TREE", str(root / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(root / "elsewhere"))
    calls = wrap_git(root.parent / f"{root.name}-bin", monkeypatch, 'echo "$*" >> "$0.log"')
    before = look()
    session = run_session(pytester, "-p", "no:cacheprovider", ".harness")
    session.result.assert_outcomes(passed=1)
    assert look() == before
    assert not (root / "was-run").exists()
    assert len((calls / "git.log").read_text().splitlines()) < 25, "no process per file"


SECRET = "tok-4711-verysecret"


@pytest.mark.parametrize(
    ("files", "shown"),
    [
        ({"config/a": f"token: {SECRET}\n", "config/b": f"token: {SECRET}\n"}, "config/a"),
        ({"config/a": "same\n", f"config/{SECRET}": "same\n"}, "config/***"),
    ],
    ids=["content", "name"],
)
def test_a_tracked_secret_is_not_stored(
    pytester: pytest.Pytester, root: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], shown: str
) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", SECRET)
    commit(root, files)
    session = run_session(pytester, ".harness")
    session.result.assert_outcomes(failed=1)
    assert session.run["reason"] == (
        f"the baseline of .harness cannot be stored: {shown} holds the value of DEPLOY_TOKEN; "
        "remove it there and commit, or name another revision"
    )
    objects = git(session.folder / "store.git", "cat-file", "--batch-all-objects", "--batch-check")
    assert len(objects.splitlines()) == 3, "the sealed file, its folder and their commit"
