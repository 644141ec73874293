"""Clean-room evaluation through the front door: nothing but the candidate's own files counts."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sessions import find_processes, make_mark, run_session, write_files

from pytest_metaharness.core.folders import remove

# Every command spoils the checkout so that the check after it, which reads scripts/answer, would gain if it worked.
SPOILS = {
    "rewrites-what-is-measured": "echo good > scripts/answer",
    "rewrites-the-measure": "echo 'echo 1' > measure/score.sh",
    "replaces-a-folder-by-a-link": (
        "mkdir other && echo good > other/answer && rm -r scripts && ln -s other scripts && grep good scripts/answer"
    ),
    "replaces-the-sealed-folder-by-a-link": (
        "mkdir ours && echo 'echo 1' > ours/score.sh && mv measure theirs && ln -s ours measure"
    ),
    "keeps-size-and-time": "cp -p scripts/answer ref && echo good > scripts/answer && touch -r ref scripts/answer",
    "hard-links": "echo good > linked && ln -f linked scripts/answer",
    "writes-through-memory": "python -I map.py scripts/answer good",
    "deletes": "find . -mindepth 1 -not -path './made*' -delete",
    "puts-folders-in-the-way": "rm measure/score.sh && mkdir -p measure/score.sh/in && touch measure/score.sh/in/x",
    "puts-a-pipe-in-the-way": "rm scripts/answer && mkfifo scripts/answer",
    "takes-permissions-away": "chmod 000 scripts/answer measure/score.sh scripts measure",
    "leaves-a-daemon": "python -I daemon.py MARK",
}
MAP = """\
import mmap, sys
with open(sys.argv[1], "r+b") as file:
    mapped = mmap.mmap(file.fileno(), 0)
    assert mapped[:4] == b"evil"  # the page is there when it is written to: no fault, no stamp
    mapped[:4] = sys.argv[2].encode()
"""
DAEMON = """\
import os, time
def leave():
    if os.fork():
        os._exit(0)
leave(); os.setsid(); leave()
while True:
    with open("scripts/answer", "w") as file:
        file.write("good")
    with open("measure/score.sh", "w") as file:
        file.write("echo 1")
"""


def make_spoilable(pytester: pytest.Pytester, spoils: dict[str, str], mark: str = "") -> None:
    checks: dict[str, dict[str, str]] = {}
    for name, command in spoils.items():
        checks[name] = {"run": command.replace("MARK", mark)}
        checks[f"after-{name}"] = {"score": "sleep 0.02; bash measure/score.sh"}
    checks["makes"] = {"run": "mkdir made && mv scripts/answer made"}
    checks["has-what-was-made"] = {"run": "test -f made/answer -a -f scripts/answer"}
    write_files(
        pytester.mkdir("spoilable"),
        {
            "metaharness.yaml": json.dumps({"goal": "Measure.", "sealed": "sealed", "checks": checks}),
            "sealed/measure/score.sh": "grep -q good scripts/answer && echo 1 || echo 0",
            "baseline/scripts/answer": "evil\n",
            "baseline/scripts/lib/x": "x",
            "baseline/map.py": MAP,
            "baseline/daemon.py": DAEMON,
        },
    )


def test_no_check_gains_by_what_an_earlier_one_spoiled(pytester: pytest.Pytester, sandbox_mode: str) -> None:
    mark = make_mark()
    make_spoilable(pytester, SPOILS, mark)
    session = run_session(pytester, f"--metaharness-sandbox={sandbox_mode}")
    session.result.assert_outcomes(passed=1)
    assert session.values() == {
        **{f"{prefix}{name}": value for name in SPOILS for prefix, value in (("", 1), ("after-", 0))},
        "makes": 1,
        "has-what-was-made": 1,
    }
    assert not find_processes(mark)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in a file system of memory, as /tmp often is: it does not stamp what is written through a mapping."""
    try:
        folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    except OSError:
        pytest.skip("there is no /dev/shm to write to")
    yield folder
    remove(folder)


def test_a_temporary_folder_in_memory_is_as_safe(
    pytester: pytest.Pytester, sandbox_mode: str, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(memory))
    make_spoilable(pytester, {"writes-through-memory": SPOILS["writes-through-memory"]})
    session = run_session(pytester, f"--metaharness-sandbox={sandbox_mode}")
    session.result.assert_outcomes(passed=1)
    assert session.values() == {
        "writes-through-memory": 1,
        "after-writes-through-memory": 0,
        "makes": 1,
        "has-what-was-made": 1,
    }
    assert list(memory.iterdir()) == []


ALLOWED = {"PATH", "HOME", "TMPDIR", "TERM", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME"}
OF_BASH = {"PWD", "OLDPWD", "SHLVL", "_"}
OURS_UNJAILED = {"METAHARNESS_TREE"}
CONNECT = "python -Ic 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 5)'"


@pytest.fixture
def port() -> Iterator[int]:
    """A port of this machine that can be connected to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_check_sees_and_reaches_only_what_it_may(
    pytester: pytest.Pytester, sandbox_mode: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pytester.path
    home = write_files(pytester.mkdir("home"), {".netrc": "password of the user\n"})
    temporary = pytester.mkdir("temporary")
    for name, value in {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "SERVICE_API_KEY": "c0ffee-c0ffee",
        "PLAIN": "plain",
        "LC_TIME": "C",
    }.items():
        monkeypatch.setenv(name, value)
    same = {  # with and without a jail
        "environment": ("env -0; false", 0),
        "home-is-empty": ('test -z "$(ls -A ~)" && touch ~/used && mkdir "$TMPDIR/used"', 1),
        "home-is-empty-again": ('test -z "$(ls -A ~ "$TMPDIR" | grep used)"', 1),
        "python-is-the-same": (f"test \"$(python -Ic 'import sys; print(sys.prefix)')\" = '{sys.prefix}'", 1),
        "write-home": (f"touch {home}/written", 1),  # in the jail that is memory
        "reads-what-it-may": (f"test -f {root}/target/metaharness.yaml", 1),
    }
    reached_unjailed = {
        "network": CONNECT.format(port=port),
        "home": f"grep password {home}/.netrc",
        "store": f"test -d {root}/.metaharness/tested/store.git",
        "processes": "grep -qs -e '[-]-metaharness-name' /proc/[0-9]*/cmdline",
        "write-root": f"touch {root}/written",
        "write-target": f"touch {root}/target/written",
    }
    never_tried_unjailed = {
        "remount": "mount -o remount,rw,bind /",
        "remount-as-root-of-its-own": "unshare -rm mount -o remount,rw,bind /",
        "remount-target": f"mount -o remount,rw,bind {root}/target",
        "uncover-home": f"unshare -rm umount {home}",
        "write-etc": "touch /etc/metaharness-was-here",
        "write-python": f"touch {sys.prefix}/metaharness-was-here",
    }
    is_jailed = sandbox_mode == "auto"
    checks = {name: command for name, (command, _) in same.items()} | reached_unjailed
    if is_jailed:
        checks |= never_tried_unjailed
    write_files(
        pytester.mkdir("target"),
        {
            "metaharness.yaml": json.dumps(
                {"goal": "Look around.", "checks": {name: {"run": command} for name, command in checks.items()}}
                | {"sandbox_read": [".."]}
            ),
            "baseline/a.md": "a",
        },
    )
    session = run_session(pytester, f"--metaharness-sandbox={sandbox_mode}", "target")
    session.result.assert_outcomes(passed=1)
    reached = dict.fromkeys(checks.keys() - same.keys(), 0 if is_jailed else 1)
    assert session.values() == {name: value for name, (_, value) in same.items()} | reached
    written = sorted(file.relative_to(root).as_posix() for file in root.rglob("written"))
    assert written == ([] if is_jailed else ["home/written", "target/written", "written"])

    listing = (session.trial / "c0000" / "check-environment.log").read_text().split("\0")[:-1]
    environment = dict(variable.split("=", 1) for variable in listing)
    expected = ALLOWED | OF_BASH | {"LC_TIME"} | (set() if is_jailed else OURS_UNJAILED)
    assert environment.keys() <= expected
    assert environment["HOME"] != str(home)
    assert environment["TMPDIR"] != str(temporary)
    assert list(temporary.iterdir()) == [], "temporary folders are removed"
    assert [file.name for file in home.iterdir()] == ([".netrc"] if is_jailed else [".netrc", "written"])


def test_what_is_left_out_of_the_sealed_folder_is_warned_of(pytester: pytest.Pytester) -> None:
    target = {
        "goal": "Be measured.",
        "sealed": "sealed",
        "transient": ["*.log"],
        "checks": {"sealed": {"run": "test -e judge.sh && test ! -e wanted.log"}},
    }
    files = {"baseline/a.md": "a", "sealed/judge.sh": "", "sealed/wanted.log": "", "sealed/in/node_modules/a": ""}
    write_files(pytester.path, {"metaharness.yaml": json.dumps(target), **files})
    session = run_session(pytester)
    session.result.assert_outcomes(passed=1, warnings=1)
    assert session.values() == {"sealed": 1}
    session.result.stdout.fnmatch_lines(
        ["*left out of the sealed folder, being transient or no regular file: in/node_modules/, wanted.log"]
    )


def test_what_is_left_out_of_a_baseline_is_warned_of(pytester: pytest.Pytester) -> None:
    clean = {"run": 'test "$(ls -A)" = a.md'}
    write_files(
        pytester.path,
        {
            "metaharness.yaml": json.dumps({"goal": "Be clean.", "checks": {"clean": clean}}),
            "baseline/a.md": "a",
            "baseline/.venv/left": "left",
        },
    )
    session = run_session(pytester)
    session.result.assert_outcomes(passed=1, warnings=1)
    assert session.values() == {"clean": 1}
    session.result.stdout.fnmatch_lines(["*left out of the baseline*.venv/*"])


# ------------------------------------------------------------------------------------------ after a backend's work

LEAVES_MUCH = """
import subprocess
from pathlib import Path
from pytest_metaharness import Proposal

def pytest_metaharness_propose(request):
    workspace = request.workspace
    done = request.run(["bash", "scripts/bootstrap.sh"])
    assert done.returncode == 0, done.stderr.text()
    assert (workspace / ".venv/bin/python").exists()
    for folder in ("__pycache__", ".pytest_cache", "scripts/__pycache__", "node_modules/left-pad", "built"):
        (workspace / folder).mkdir(parents=True)
        (workspace / folder / "left.pyc").write_text("left")
    (workspace / ".git").mkdir()
    (workspace / ".git" / "config").write_text("[core]")
    subprocess.Popen(["sleep", "MARK"], start_new_session=True)
    request.run(["bash", "-c", "setsid sleep MARK >/dev/null 2>&1 & true"])
    with (workspace / "AGENTS.md").open("w") as file:
        file.write("word " * int(request.candidate[1:]))
    return Proposal(status="completed")
"""


def test_leftovers_of_a_backend_are_neither_help_nor_harm(pytester: pytest.Pytester, sandbox_mode: str) -> None:
    mark = make_mark()
    write_files(
        pytester.mkdir("target"),
        {
            "metaharness.yaml": """
                goal: Write words.
                editable: [AGENTS.md]
                transient: [built/]
                budget: 5
                checks:
                  is-clean:
                    run: test "$(ls -A | tr '\\n' ' ')" = "AGENTS.md scripts " -a "$(ls -A scripts)" = bootstrap.sh
                  bootstrap: {run: bash scripts/bootstrap.sh && .venv/bin/python -c "import sys"}
                  words: {score: python -Ic "print(len(open('AGENTS.md').read().split()) / 10)"}
            """,
            "conftest.py": LEAVES_MUCH.replace("MARK", mark),
            "baseline/AGENTS.md": "",
            "baseline/scripts/bootstrap.sh": "python -m venv --without-pip .venv\n",
        },
    )
    session = run_session(pytester, "--metaharness=mine", f"--metaharness-sandbox={sandbox_mode}")
    session.result.assert_outcomes(passed=1)
    for number in range(1, 6):
        assert session.candidate(number)["outcome"] == "keep", session.candidate(number)["reason"]
        assert session.candidate(number)["changed_files"] == ["AGENTS.md"]
        assert session.values(number) == {"is-clean": 1, "bootstrap": 1, "words": number / 10}
    assert session.run["proposals"] == 5
    assert not find_processes(mark)


COVERS_SEALED_FILES = """
import os, shutil
from pytest_metaharness import Proposal

def pytest_metaharness_propose(request):
    workspace, target = request.workspace, request.target.file.parent
    if request.candidate == "c0001":
        request.run(["grep", "-rs", "the [r]uler", str(workspace)])
        assert not (request.log_dir / "stdout").read_text(), "the workspace is free of sealed files"
    request.run(["grep", "-rs", "the [r]uler", str(target), str(target.parent / ".metaharness")])
    request.run(["grep", "-rs", "the [g]oal", str(target / "metaharness.yaml")])
    number = int(request.candidate[1:])
    (workspace / "scripts" / "answer").write_text("x" * number)
    place = workspace / "measure"
    if number == 1:
        place.symlink_to("scripts")
        (workspace / "scripts" / "score.py").write_text("print(1)")
    if number == 2:
        os.remove(place)
        place.write_text("a file")
    if number == 3:
        os.remove(place)
        (place / "score.py" / "inner").mkdir(parents=True)
        (place / "score.py" / "inner" / "x").write_text("print(1)")
    if number == 4:
        shutil.rmtree(place)
        place.mkdir()
        (place / "score.py").write_text("print(1)")
    return Proposal(status="completed")
"""


def test_sealed_files_are_the_authors_own(pytester: pytest.Pytester, sandbox_mode: str) -> None:
    ruler = "# the ruler\nprint(len(open('scripts/answer').read()) / 10)\n"
    write_files(
        pytester.mkdir("target"),
        {
            "metaharness.yaml": """
                goal: This is the goal.
                sealed: evaluation
                sandbox_read: [., ..]
                checks: {length: {score: python -I measure/score.py}}
            """,
            "conftest.py": COVERS_SEALED_FILES,
            "evaluation/measure/score.py": ruler,
            "baseline/scripts/answer": "",
        },
    )
    session = run_session(
        pytester, "--metaharness=mine", "--metaharness-budget=4", f"--metaharness-sandbox={sandbox_mode}"
    )
    session.result.assert_outcomes(passed=1)
    outcomes = [(candidate["outcome"], candidate["objective"]) for candidate in session.run["candidates"]]
    assert outcomes == [("baseline", 0), ("keep", 0.1), ("keep", 0.2), ("keep", 0.3), ("keep", 0.4)]
    found = (session.trial / "c0001" / "stdout").read_text()
    assert "This is the goal" in found, "the program can read what lies beside the sealed folder"
    assert ("the ruler" in found) == (sandbox_mode == "off")
    assert (pytester.path / "target/evaluation/measure/score.py").read_text() == ruler


def test_a_candidate_cannot_speak_for_the_scorer(pytester: pytest.Pytester, bwrap: None) -> None:
    """The candidate's program writes to what other processes of the jail have open, and stays to do it again."""
    write_files(
        pytester.path / "forged",
        {
            "baseline/forge.sh": "for n in 1 2 3 4 5 6 7 8 9; do echo 1.0 > /proc/1/fd/$n; done 2> /dev/null\n"
            "(while :; do echo 1.0 > /proc/1/fd/1; done) 2> /dev/null &\n",
            "metaharness.yaml": "goal: x\nchecks: {a: {score: bash forge.sh > /dev/null; echo 0.25; sleep 0.5}}\n",
        },
    )
    assert run_session(pytester, "forged").values() == {"a": 0.25}
