"""A baseline from git: what its own ``.gitignore`` files ignore is never part of a candidate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from repositories import commit, git, list_tree
from sessions import Session, run_session, write_files

CHECKS = {
    "names-tests": {"contains": {"path": "AGENTS.md", "all": ["run the tests"]}},
    "is-never-content": {"contains": {"path": "AGENTS.md", "all": ["@never@"]}},
}
KEPT = ("keep", "0.000 -> 0.500")
WORKFLOW = {"AGENTS.md": "run the tests\n"}
PROJECT = {
    ".gitignore": "# what a build leaves\ndist/\n*.egg-info/\n.coverage*\n!.coveragerc\n*.lock\n",
    "AGENTS.md": "nothing yet\n",
    "docs/.gitignore": "/_build/\n",
    "docs/index.md": "# Index\n",
    "poetry.lock": "as locked\n",
    "pkg/dist/README.md": "tracked in a folder that is ignored\n",
}
LEFT = {
    ".coverage.1": "left",
    "dist/pkg.whl": "left",
    "docs/_build/deep/index.html": "left",
    "pkg/dist/pkg.whl": "left",
    "pkg/pkg.egg-info/PKG-INFO": "left",
}


@pytest.fixture
def root(pytester: pytest.Pytester) -> Path:
    """A repository with ignored build products."""
    git(pytester.path, "init", "-q")
    (pytester.path / ".git" / "info" / "exclude").write_text(".metaharness/\n*.secretly-ignored\n")
    commit(pytester.path, PROJECT)
    return pytester.path


def improve(
    pytester: pytest.Pytester,
    *proposals: Mapping[str, object],
    editable: Sequence[str] = ("AGENTS.md",),
    baseline: Mapping[str, str] | None = None,
    **keys: object,
) -> Session:
    """Run a target of the repository, in ``.harness`` and not committed."""
    target = {"goal": "Say how to work here.", "baseline": baseline or {"git": "HEAD"}, "checks": CHECKS}
    files = {"metaharness.yaml": {**target, "editable": editable, **keys}, "fake.yaml": {"proposals": proposals}}
    write_files(pytester.path / ".harness", {name: json.dumps(content) for name, content in files.items()})
    session = run_session(pytester, "--metaharness=fake", f"--metaharness-budget={len(proposals)}", ".harness")
    session.result.assert_outcomes(passed=1)
    return session


def read_outcomes(session: Session) -> list[tuple[str, str]]:
    return [(one["outcome"], one["reason"]) for one in session.run["candidates"][1:]]


def read_files(session: Session, candidate: str) -> set[str]:
    tree = list_tree(session.folder / "store.git", f"refs/heads/{session.trial.name}/{candidate}")
    return set(map(bytes.decode, tree))


def test_what_a_build_leaves_is_no_change(pytester: pytest.Pytester, root: Path) -> None:
    session = improve(pytester, {"files": {**WORKFLOW, **LEFT}})
    assert read_outcomes(session) == [KEPT]
    assert session.run["changed_files"] == ["AGENTS.md"]
    assert read_files(session, "c0001") == set(PROJECT)
    git(root, "apply", "--index", str(session.trial / "best.patch"))


@pytest.mark.parametrize(
    ("files", "violation"),
    [
        ({"hidden.py": ""}, "added hidden.py"),
        ({"poetry.lock": "another"}, "changed poetry.lock"),
        ({"pkg/dist/README.md": "another"}, "changed pkg/dist/README.md"),
        ({".coveragerc": ""}, "added .coveragerc"),
        ({"docs/dist.md": ""}, "added docs/dist.md"),
        ({"_build/a": ""}, "added _build/a"),
        ({"a.secretly-ignored": ""}, "added a.secretly-ignored"),
        ({"sub/.gitignore": "*", "sub/hidden.py": ""}, "added sub/.gitignore, added sub/hidden.py"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_candidate_cannot_hide_a_change(
    pytester: pytest.Pytester, root: Path, files: dict[str, str], violation: str
) -> None:
    hiding = {**WORKFLOW, ".gitignore": "*\n!AGENTS.md\n!.gitignore\n"}
    proposals = [{"files": each} for each in ({**hiding, **files}, hiding, files)]
    session = improve(pytester, *proposals, editable=["AGENTS.md", ".gitignore"])
    refused = ("scope-violation", f"{violation}; only AGENTS.md, .gitignore may be changed")
    assert read_outcomes(session) == [refused, KEPT, refused]
    assert read_files(session, "best") == set(PROJECT)


def test_the_parent_folders_ignore_too_as_they_did_then(pytester: pytest.Pytester, root: Path) -> None:
    files = {"libs/.gitignore": "tmp/\n/one/out/\n", "libs/one/.gitignore": "!keep.lock\n", "libs/one/AGENTS.md": ""}
    commit(root, {**files, "libs/one/src/a.py": "", "apart/.gitignore": "*"})
    git(root, "tag", "then")
    commit(root, {".gitignore": "", "libs/.gitignore": "AGENTS.md", "libs/one/.gitignore": ""})
    left = {"out/a": "", "src/tmp/b": "", "dist/c": "", "d.lock": ""}
    more = {"src/out/e": "", "keep.lock": "", "one/out/f": ""}
    proposals = {"files": {**WORKFLOW, **left, **more}}, {"files": {**WORKFLOW, **left}}
    session = improve(pytester, *proposals, baseline={"git": "then", "path": "libs/one"})
    added = ", ".join(f"added {path}" for path in sorted(more))
    assert read_outcomes(session) == [("scope-violation", f"{added}; only AGENTS.md may be changed"), KEPT]
    assert read_files(session, "best") == {".gitignore", "AGENTS.md", "src/a.py"}


def test_what_no_candidate_can_have_is_told(pytester: pytest.Pytester, root: Path) -> None:
    commit(root, {".gitignore": "dist/\n*.local.md\n"})
    editable = ["AGENTS.md", "pkg/dist/", "dist/", "notes.local.md", "*.md", "docs/"]
    session = improve(pytester, {"files": WORKFLOW}, editable=editable)
    session.result.stdout.fnmatch_lines(
        ["*.harness: ignored by a .gitignore file, so no candidate can have it: dist/, notes.local.md"]
    )
