"""Secrets planted wherever a machine has them, and checks and an agent that hunt them all: nobody learns one.

In the jail no program can read one. Without it programs can; but what they print and write is nowhere in what the
session stores and shows, git's objects included.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import shlex
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from repositories import git
from sessions import Session, read_all, write_files

HUNTER = r'''
"""Prints whatever has one of the marks in it, in many spellings, and writes it into every folder that it can."""
import base64, glob, json, os, re, subprocess, sys, urllib.parse

marks = [mark[::-1].encode() for mark in sys.argv[1].split(",")]
target, home = sys.argv[2:4]
lines = set()


def look(data):
    lines.update(line for line in re.split(rb"[\0\n]", data) if any(mark in line for mark in marks))


def look_into(path):
    try:
        if os.path.isfile(path) or path.startswith("/proc/"):
            with open(path, "rb") as file:
                look(file.read(1 << 20))
    except OSError:
        pass


for name, value in os.environ.items():
    look(f"{name}={value}".encode())
for pattern in ("/proc/*/environ", "/proc/*/cmdline", "/run/user/*/*", "/run/secrets/*", "/dev/shm/*", "/tmp/*"):
    for path in glob.glob(pattern):
        look_into(path)
for folder in (home, os.path.expanduser("~"), target):
    for around, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in (".metaharness", "baseline")]
        for name in files:
            look_into(os.path.join(around, name))
for start in (target, os.getcwd()):
    folder = start
    while folder != "/":
        for path in glob.glob(os.path.join(glob.escape(folder), ".*")) + glob.glob(os.path.join(folder, "keys", "*")):
            look_into(path)
        folder = os.path.dirname(folder)
    for command in ("git log -p --all", "git show --all", "git config --list", "git stash list -p"):
        look(subprocess.run(command.split(), cwd=start, stdout=-1, stderr=-3).stdout)

found = b"\n".join(sorted(lines))
text = found.decode(errors="replace")
written = "\n".join((
    text,
    base64.b64encode(found).decode(),
    base64.encodebytes(found).decode(),
    base64.urlsafe_b64encode(found).decode(),
    urllib.parse.quote(text),
    urllib.parse.quote_plus(text),
    json.dumps({"found": text}),
    json.dumps({"log": json.dumps({"found": base64.encodebytes(found).decode()})}),
))
print(written)
print(written, file=sys.stderr)
for folder in {os.getcwd(), os.path.expanduser("~"), os.environ.get("TMPDIR", "."), os.environ.get("NOTES", ".")}:
    try:
        with open(os.path.join(folder, "found.txt"), "w") as file:
            file.write(written)
    except OSError:
        pass
names = sorted({name.decode() for line in lines for mark in marks for name in re.findall(mark + rb"x(\w+?)x", line)})
print(json.dumps({"score": 0, "metrics": dict.fromkeys(names, 1), "feedback": f"knows {' '.join(names)}: {text}"}))
'''
"""Started with the marks, backwards so that they stand in no command, the target's folder and the home folder."""

TESTS = """
import subprocess, sys

def test_hunts():
    done = subprocess.run([sys.executable, "-I", "hunt.py", {arguments}], capture_output=True, text=True)
    print(done.stdout)
    assert done.stdout == "", done.stdout
"""
PROVIDER = """
import json, os, sys
from pathlib import Path
from pytest_metaharness import Proposal

PLANTED = json.loads(Path(__file__).parents[2].joinpath("planted.json").read_text())

def pytest_metaharness_propose(request):
    number = int(request.candidate[1:]) - 1
    notes = request.workspace / "notes.txt"
    if number == 0:
        done = request.run(["python", "-I", "hunt.py", *PLANTED["arguments"]], env={"NOTES": str(request.log_dir)})
        assert done.returncode == 0, done.stderr.text()
        (request.log_dir / "found.json").write_text(done.stdout.text())
        return Proposal(status="completed", summary=done.stdout.text(), reason=done.stderr.text())
    if number <= len(PLANTED["values"]):
        notes.write_text("login: " + PLANTED["values"][number - 1])
    else:
        notes.write_text("Work carefully.")
    return Proposal(status="completed")
"""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Values by what a reason calls them; each has the *mark* in it. What only the jail hides has the *other* mark."""

    mark: str
    other: str
    values: Mapping[str, str]

    @property
    def names(self) -> set[str]:
        """The part of each value that a hunter may tell."""
        return {value.partition(f"{self.mark}x")[2].partition("x")[0] for value in self.values.values()}


VARIABLES = {
    "OPENAI_API_KEY": "sk-proj-{}",
    "ANTHROPIC_API_KEY": "sk-ant-api03-{}-AA",
    "GEMINI_API_KEY": "AIza{}",
    "AWS_SECRET_ACCESS_KEY": "{}/K7+MDENG/b=",
    "GITHUB_TOKEN": "ghp_{}",
    "SERVICE_PASSWORD": '{}"\\ü%&',
}
NAMED = {"token": "ghs_{}+/", "key": "-{}-"}
FILES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "home/.netrc": ("machine a.example login me password {}\n", {"password": "{}!0"}),
    "home/.aws/credentials": ("[default]\naws_secret_access_key = {}\n", {"aws_secret_access_key": "{}/+x"}),
    "home/.config/gh/hosts.yml": ("github.com:\n    oauth_token: {}\n    user: me\n", {"oauth_token": "gho_{}"}),
    "home/.ssh/id_ed25519": (
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9u\n{}\nAAAA\n-----END",
        {"private key": "AAAB{}+/QyNTUxOQAAACB0"},
    ),
    "home/.git-credentials": ("https://me:{}@git.example\n", {"password": "glpat-{}"}),
    "home/.codex/auth.json": ('{"tokens": {"refresh_token": "{}"}}', {"refresh_token": "rt.{}.1"}),
    "home/.claude/.credentials.json": ('{"claudeAiOauth": {"accessToken": "{}"}}', {"accessToken": "sk-ant-oat01-{}"}),
    "home/.gemini/oauth_creds.json": ('{"access_token": "{}", "scope": "https://a/b"}', {"access_token": "ya29.{}"}),
    "home/.local/share/opencode/auth.json": ('{"a": {"type": "api", "key": "{}"}}', {"key": "sk-or-v1-{}"}),
    "home/.pi/agent/auth.json": ('{"openai": {"type": "api_key", "key": "{}"}}', {"key": "sk-pi-{}"}),
    "repo/.env": ('export SERVICE_SECRET="{}"\n', {"SERVICE_SECRET": "{}=="}),
    "repo/keys/service.json": ('{"client_secret": "{}"}', {"client_secret": "GOCSPX-{}"}),
}


def plant(root: Path, monkeypatch: pytest.MonkeyPatch) -> Planted:
    """Plant a secret in every place, and in some of them something that the jail alone has to hide."""
    mark, other = (f"Pl4nted{uuid.uuid4().hex[:8]}" for _ in range(2))
    numbers = itertools.count()

    def make(pattern: str) -> str:
        return pattern.replace("{}", f"{mark}xn{next(numbers):02}x7Qw")

    values = {name: make(pattern) for name, pattern in VARIABLES.items()}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    for path, (content, secrets) in FILES.items():
        ((name, pattern),) = secrets.items()
        value = make(pattern)
        write_files(root, {path: content.replace("{}", value)})
        shown = path.replace("home/", "~/") if path.startswith("home/") else f"../{path.removeprefix('repo/')}"
        values[f"{name} in {shown}"] = value
    service = values.pop("client_secret in ../keys/service.json")
    values[f"client_secret in {root}/repo/keys/service.json"] = service
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(root / "repo/keys/service.json"))
    values["OUTER_TOKEN of a parent process"] = make("outer-{}")
    monkeypatch.setenv("OUTER_TOKEN", values["OUTER_TOKEN of a parent process"])
    monkeypatch.setenv("HOME", str(root / "home"))
    return Planted(mark=mark, other=other, values=values)


@pytest.fixture
def planted(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Planted]:
    """A machine full of secrets, with a repository that has the target in it."""
    root = pytester.path
    planted = plant(root, monkeypatch)
    arguments = (f"{planted.mark[::-1]},{planted.other[::-1]}", str(root / "repo/target"), str(root / "home"))
    hunt = f"python -I hunt.py {shlex.join(arguments)}"
    target = {
        "goal": "Find nothing.",
        "sealed": "sealed",
        "sandbox_read": [".."],  # the repository can be seen, so that it matters what is hidden in it
        "backends": {"mine": {"provider": "mine"}},
        "budget": len(planted.values) + 2,
        "checks": {
            "scores": {"score": hunt},
            "runs": {"run": f"{hunt}; false"},
            "tests": {"pytest": "tests", "feedback": "full"},
            "says": {"contains": {"path": "notes.txt", "all": ["carefully"]}},
        },
    }
    repository = root / "repo"
    git(repository, "init", "-q")
    write_files(repository, {"old.txt": f"{planted.other}xhistoryx", ".gitignore": ".env\nkeys/\n"})
    commit(repository)
    (repository / "old.txt").unlink()
    write_files(
        repository / "target",
        {
            "metaharness.yaml": json.dumps(target),
            "conftest.py": PROVIDER,
            "baseline/hunt.py": HUNTER,
            "sealed/tests/test_hunts.py": TESTS.format(arguments=", ".join(map(repr, arguments))),
        },
    )
    commit(repository)
    told = {"values": list(planted.values.values()), "arguments": arguments}
    write_files(root, {"planted.json": json.dumps(told)})
    in_memory = Path("/dev/shm", planted.mark)
    in_memory.write_text(f"{planted.other}xmemoryx")
    yield planted
    in_memory.unlink()


def commit(repository: Path) -> None:
    """Commit what is not ignored."""
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "files")


def run_below_a_parent(pytester: pytest.Pytester, *args: str, other: str) -> Session:
    """Run a session whose parent process has OUTER_TOKEN in its environment, and more on its command line."""
    name = "--metaharness-name=tested"
    script = 'unset OUTER_TOKEN; shift; "$@"; exit $?'
    command = ("bash", "-c", script, "bash", f"{other}xcommandx", *pytester._getpytestargs(), name, *args)
    return Session(result=pytester.run(*command), folder=pytester.path / ".metaharness" / "tested")


def find_marks(session: Session, *also: Path, of: str) -> list[str]:
    """Say where the terminal or a file of the session, by name or content, has *of*, also in base64."""
    needles = {of.encode()}
    for before in range(3):  # at whichever place in something longer
        encoded = base64.b64encode(bytes(before) + of.encode())
        needles.add(encoded[-(-before * 8 // 6) : (before + len(of)) * 8 // 6])
    places = {"the terminal": session.output.encode(), **dict(read_all(session.folder))}
    places |= {str(path): path.read_bytes() for path in also}
    flat = {place: re.sub(rb"[\r\n]|\\+[rn]", b"", content) for place, content in places.items()}
    return sorted(place for place, content in flat.items() if any(needle in content for needle in needles))


def test_nobody_learns_a_planted_secret(pytester: pytest.Pytester, planted: Planted, sandbox_mode: str) -> None:
    also = tuple(pytester.path / name for name in ("junit.xml", "copy.json", "copy.tsv"))
    session = run_below_a_parent(
        pytester,
        "--metaharness=mine",
        f"--metaharness-sandbox={sandbox_mode}",
        "--junitxml=junit.xml",
        "--metaharness-report=copy.json",
        "--metaharness-report=copy.tsv",
        "-rA",
        "-vv",
        "repo/target",
        other=planted.other,
    )
    assert session.trial.exists(), session.output
    assert find_marks(session, *also, of=planted.mark) == []

    baseline, hunted, *carried, honest = session.run["candidates"]
    for number, (name, candidate) in enumerate(zip(planted.values, carried, strict=True), start=2):
        assert (candidate["id"], candidate["outcome"]) == (f"c{number:04}", "invalid")
        assert candidate["reason"] == f"notes.txt holds the value of {name}; not stored"
    assert (honest["outcome"], session.run["best_candidate"]) == ("keep", honest["id"])

    found_by_check = set(baseline["checks"][0]["metrics"])
    found_by_agent = set(json.loads((session.trial / "c0001/stdout").read_text().splitlines()[-1])["metrics"])
    if sandbox_mode == "off":
        assert found_by_check == found_by_agent == planted.names | {"history", "memory", "command"}
        assert (hunted["outcome"], "found.txt holds the value of" in hunted["reason"]) == ("invalid", True)
    else:
        assert found_by_check == found_by_agent == set()
        assert hunted["outcome"] == "discard"
        assert find_marks(session, *also, of=planted.other) == []
