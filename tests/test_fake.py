"""The provider ``fake`` plays what stands beside a target, faults too."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from sessions import run_session, write_files

TARGET = """
goal: Play.
editable: [a.md, scripts/, link.md, new.md]
checks: {points: {score: python -Ic "print(len(open('a.md').read().split()) / 20)"}}
"""


@pytest.fixture
def target(pytester: pytest.Pytester) -> Path:
    """A target whose objective is the number of words in a.md, over 20."""
    return write_files(
        pytester.mkdir("play"),
        {"metaharness.yaml": TARGET, "baseline/a.md": "one\n", "baseline/scripts/run.sh": "exit 1\n"},
    )


def test_every_kind_of_proposal_and_of_fault(pytester: pytest.Pytester, target: Path, sandbox_mode: str) -> None:
    (target / "baseline" / "link.md").symlink_to("a.md")
    write_files(
        target,
        {
            "fake.yaml": r"""
proposals:
  - summary: Two words, a program and a file in place of a link.
    files:
      a.md: one two
      scripts/deep/new.sh: "echo caf\u00e9\r\n"
      link.md: a file
    modes: {scripts/run.sh: "755", scripts/deep/new.sh: "755"}
  - delete: [scripts/run.sh]
    files: {a.md: one two three}
  - patch: |
      --- a/a.md
      +++ b/a.md
      @@ -1 +1 @@
      -one two three
      \ No newline at end of file
      +one two three four
      --- /dev/null
      +++ b/new.md
      @@ -0,0 +1 @@
      +new
  - patch: |
      --- a/a.md
      +++ b/a.md
      @@ -1 +1 @@
      -something else
      +one two three four five
  - {fault: sleep}
  - {fault: crash}
  - {fault: raise}
  - {fault: unavailable, summary: Faults come first.}
  - delete: [scripts/no-such-file]
  - modes: {new.md: "644"}
  - files: {other.md: outside}
""",
        },
    )
    session = run_session(
        pytester,
        "--metaharness=fake",
        "--metaharness-budget=12",
        "--metaharness-timeout=1",
        f"--metaharness-sandbox={sandbox_mode}",
    )
    session.result.assert_outcomes(passed=1)
    assert [(one["outcome"], one["reason"].partition("\n")[0]) for one in session.run["candidates"][1:]] == [
        ("keep", "0.050 -> 0.100"),
        ("keep", "0.100 -> 0.150"),
        ("keep", "0.150 -> 0.200"),
        ("crash", "fake.yaml: proposals[3]: the patch does not apply: error: patch failed: a.md:1"),
        ("timeout", "no answer within 1 s"),
        ("crash", "imitated: the program died of SIGSEGV"),
        ("crash", "RuntimeError: imitated: the backend raised"),
        ("unavailable", "imitated: the service is down"),
        ("crash", "fake.yaml: proposals[8]: scripts/no-such-file: No such file or directory"),
        ("no-change", "the backend changed no file"),
        ("scope-violation", "added other.md; only a.md, scripts/, link.md, new.md may be changed"),
        ("no-change", "fake.yaml has no proposal number 12"),
    ]
    assert [one["changed_files"] for one in session.run["candidates"][1:4]] == [
        ["a.md", "link.md", "scripts/deep/new.sh", "scripts/run.sh"],
        ["a.md", "scripts/run.sh"],
        ["a.md", "new.md"],
    ]
    patch = (session.trial / "c0001" / "patch").read_bytes().decode()
    assert "old mode 100644\nnew mode 100755" in patch
    assert "new file mode 100755" in patch
    assert "+echo caf\u00e9\r\n" in patch
    assert "-a.md\n\\ No newline at end of file\ndiff --git a/link.md b/link.md\nnew file mode 100644" in patch
    assert "deleted file mode 100755" in (session.trial / "c0002" / "patch").read_text()
    reasons = [one["reason"] for one in session.run["candidates"]]
    assert not [reason for reason in reasons if "/" in reason.replace("scripts/", "")], "no temporary path is shown"


def test_a_patch_applies_also_where_the_temporary_folder_lies_in_a_repository(
    pytester: pytest.Pytester, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", str(pytester.path)], check=True)
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("temporary")))
    patch = "--- a/a.md\n+++ b/a.md\n@@ -1 +1 @@\n-one\n+one two\n"
    write_files(target, {"fake.yaml": f"proposals: [{{patch: {patch!r}}}]".replace("'", '"')})
    session = run_session(pytester, "--metaharness=fake")
    assert session.candidate(1)["reason"] == "0.050 -> 0.100"


BROKEN: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "backend 'fake' plays missing/fake.yaml, which is missing; write one beside metaharness.yaml,*"),
    "empty": (b"", "empty/fake.yaml:1: is empty"),
    "syntax": (b"proposals: [\n", "syntax/fake.yaml:1: not valid YAML: *"),
    "unknown": (b"proposal: []", "unknown/fake.yaml:1: proposal: unknown key 'proposal' *did you mean 'proposals'*"),
    "nothing": (
        b"proposals:\n  - summary: says only",
        "nothing/fake.yaml:2: proposals[0]: must have at least one of files, modes, delete, patch, fault, found none",
    ),
    "fault": (b"proposals:\n- fault: slep", "fault/fake.yaml:2: proposals[0].fault: *did you mean 'sleep'*"),
    "outside": (b"proposals: [{delete: [../a.md]}]", "outside/fake.yaml:1: proposals[0].delete[0]: must not contain*"),
    "mode": (b"proposals: [{modes: {a.md: '600'}}]", "mode/fake.yaml:1: proposals[0].modes.a.md: must be*644*755*"),
    "bytes": (b"proposals:\n- summary: \xff", "bytes/fake.yaml:2: is not UTF-8 text (byte 0xff)"),
}


def test_a_file_that_cannot_be_played_is_an_error_of_the_item(pytester: pytest.Pytester) -> None:
    for name, (content, _) in BROKEN.items():
        folder = write_files(pytester.mkdir(name), {"metaharness.yaml": TARGET, "baseline/a.md": "one"})
        if content is not None:
            (folder / "fake.yaml").write_bytes(content)
    session = run_session(pytester, "--metaharness=fake")
    session.result.assert_outcomes(errors=len(BROKEN))
    for _, message in BROKEN.values():
        session.result.stdout.fnmatch_lines_random([f"*{message.replace('[', '[[]')}"])


def test_an_error_of_the_item_has_no_traceback(pytester: pytest.Pytester, target: Path) -> None:
    session = run_session(pytester, "--metaharness=fake")
    session.result.assert_outcomes(errors=1)
    assert "fake.py" not in session.output
    session.result.stdout.fnmatch_lines(["backend 'fake' plays play/fake.yaml, which is missing; *"])
