"""Secrets stay out: whatever is done with one, its value stands nowhere in what a session stores or shows."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from sessions import Session, read_all, read_objects, run_session, write_files

SECRETS = {"SERVICE_TOKEN": 'tok/5e"cr\\et+value=', "CORP_PASSWORD": "hunter2-hunter2"}
TARGET = r"""
goal: Say more.
budget: 12
gate: {best: 1.0}
backends:
  mine: {provider: mine, env: [SERVICE_TOKEN, CORP_PASSWORD]}
checks:
  says: {score: python -Ic "print(len(open('said').read()) / 1000)"}
  peeks:
    run: |
      cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep -a -e SERVICE_TOKEN= -e CORP_PASSWORD= | sort -u
      false
  passes-on:
    score: |
      value="$(cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep -a -m1 CORP_PASSWORD= | cut -d= -f2)"
      printf '{"score": 0, "feedback": "%s%s", "metrics": {"%s": 1}}' "${value/h/\\u0068}" "$value" "$value"
  raises: {use: raises}
  tells: {use: tells}
"""
PROVIDER = """
import base64, json, os
from urllib.parse import quote
from pytest_metaharness import CheckResult, Proposal

TOKEN, PASSWORD = os.environ["SERVICE_TOKEN"], os.environ["CORP_PASSWORD"]

def show(request):
    program = '''
for value in "$SERVICE_TOKEN" "$CORP_PASSWORD"; do
  echo "given: $value"; echo "given: $value" >&2; printf %s "$value" | base64
done
'''
    given = request.run(["bash", "-c", program]).stdout.text()
    assert f"given: {TOKEN}" in given and f"given: {PASSWORD}" in given
    logs = request.log_dir
    (logs / "deep").mkdir()
    (logs / "deep" / "events.jsonl").write_text(json.dumps({"said": f"my {TOKEN} and {PASSWORD}"}))
    (logs / "raw").write_bytes(b"\\xff" + base64.b64encode(TOKEN.encode()) + quote(TOKEN).encode() + PASSWORD.encode())
    return Proposal(status="completed", summary=f"I used {TOKEN} and {PASSWORD}", reason=f"with {TOKEN}")

def in_a_file(request):
    (request.workspace / "notes").mkdir()
    (request.workspace / "notes" / "n.txt").write_bytes(b"x" * 3_000_000 + TOKEN.encode() + b"x" * 3_000_000)

def in_a_plain_file(request):
    (request.workspace / "login.txt").write_text(f"user: {PASSWORD}")

def encoded_in_a_file(request):
    (request.workspace / "auth.json").write_text(json.dumps({"token": TOKEN}))

def in_base64(request):
    (request.workspace / "auth.txt").write_bytes(base64.b64encode(b"user:" + PASSWORD.encode()))

def in_a_file_name(request):
    (request.workspace / f"for-{PASSWORD}.txt").write_text("x")

def in_a_folder_name(request):
    (request.workspace / PASSWORD).mkdir()
    (request.workspace / PASSWORD / "x").write_text("x")

def in_a_link(request):
    (request.workspace / "link").symlink_to(PASSWORD)

def in_an_exception(request):
    raise ValueError(f"401 for {TOKEN}")

def in_a_reason(request):
    return Proposal(status="unavailable", reason=f"the service refused {TOKEN} and {PASSWORD}")

def in_nonsense(request):
    return {"token": PASSWORD}

STEPS = [
    show, in_a_file, in_a_plain_file, encoded_in_a_file, in_base64, in_a_file_name, in_a_folder_name, in_a_link,
    in_an_exception, in_a_reason, in_nonsense,
]

def pytest_metaharness_propose(request):
    number = int(request.candidate[1:])
    if number > len(STEPS):
        return Proposal(status="completed")
    (request.workspace / "said").write_text("traceable-word " * number)
    return STEPS[number - 1](request) or Proposal(status="completed")

def pytest_metaharness_check(check):
    if check.use == "raises":
        raise ValueError(f"cannot log in with {TOKEN}")
    return CheckResult(value=0.5, feedback=f"logged in with {TOKEN}", metrics={PASSWORD: 1})
"""
STORED = "traceable-word"


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def find_traces(session: Session, *, also: tuple[Path, ...] = (), of: tuple[str, ...] = ()) -> list[str]:
    """Say where the terminal or a file of the session, by name or content, has a secret in any form, or one of *of*."""
    needles = {form.encode() for value in of or SECRETS.values() for form in write_forms(value)}
    places = {"the terminal": session.output.encode(), **dict(read_all(session.folder))}
    places |= {str(path): path.read_bytes() for path in also}
    return sorted(place for place, content in places.items() if any(needle in content for needle in needles))


def write_forms(value: str) -> set[str]:
    return {value, json.dumps(value)[1:-1], quote(value), base64.b64encode(value.encode()).decode().rstrip("=")}


def test_a_secret_stands_nowhere_whatever_is_done_with_it(pytester: pytest.Pytester, sandbox_mode: str) -> None:
    write_files(pytester.path, {"metaharness.yaml": TARGET, "conftest.py": PROVIDER, "baseline/said": ""})
    also = tuple(pytester.path / name for name in ("junit.xml", "copy.json", "copy.tsv"))
    session = run_session(
        pytester,
        "--metaharness=mine",
        "--metaharness-retries=0",
        f"--metaharness-sandbox={sandbox_mode}",
        "--junitxml=junit.xml",
        "--metaharness-report=copy.json",
        "--metaharness-report=copy.tsv",
        "-rA",
        "-vv",
    )
    session.result.assert_outcomes(failed=1)
    candidates = session.run["candidates"][1:]
    named = {2: "SERVICE_TOKEN", 4: "SERVICE_TOKEN"} | dict.fromkeys((3, 5, 6, 7, 8), "CORP_PASSWORD")
    places = {
        2: "notes/n.txt", 3: "login.txt", 4: "auth.json", 5: "auth.txt", 6: "for-***.txt", 7: "***/x", 8: "link"
    }  # fmt: skip
    for number, name in named.items():
        assert candidates[number - 1]["outcome"] == "invalid"
        assert candidates[number - 1]["reason"] == f"{places[number]} holds the value of {name}; not stored"
    assert [(one["outcome"], one["reason"]) for one in (candidates[0], *candidates[8:11])] == [
        ("keep", candidates[0]["reason"]),
        ("crash", "ValueError: 401 for ***"),
        ("unavailable", "the service refused *** and ***"),
        ("crash", "the backend gave {'token': '***'} instead of a Proposal"),
    ]
    assert (session.trial / "c0001" / "stdout").read_text().count("given: ***") == 2
    assert "I used *** and ***" in read_objects(session.folder / "store.git").decode(errors="replace")
    if sandbox_mode == "off":
        assert "SERVICE_TOKEN=***" in session.feedback(1)["peeks"], "the check did find it"
        assert session.feedback(1)["passes-on"] == "******"
    else:
        assert session.feedback(1)["peeks"] == "exit code 1, expected 0"
    assert session.feedback(1)["raises"] == "the check 'raises' raised ValueError: cannot log in with ***"
    assert session.feedback(1)["tells"] == "logged in with ***"
    assert find_traces(session, of=(STORED,)), "what is stored is found, in git's objects too"
    assert find_traces(session, also=also) == []


def test_a_target_that_holds_a_secret_is_refused(pytester: pytest.Pytester) -> None:
    text = json.dumps({"goal": "Keep it.", "sealed": "sealed", "checks": {"a": {"run": "true"}}})
    files = {"metaharness.yaml": text, "baseline/a.md": "a", "sealed/b.md": "b"}
    in_baseline = files | {"baseline/.env": f"PASSWORD={SECRETS['CORP_PASSWORD']}\n"}
    in_sealed = files | {"sealed/.env": f"TOKEN={SECRETS['SERVICE_TOKEN']}\n"}
    write_files(pytester.mkdir("one"), in_baseline)
    write_files(pytester.mkdir("two"), in_sealed)
    session = run_session(pytester)
    session.result.assert_outcomes(failed=2)
    assert [run["reason"] for run in session.runs] == [
        "the baseline of one cannot be stored: .env holds the value of CORP_PASSWORD; remove it there",
        "the sealed folder of two cannot be stored: .env holds the value of SERVICE_TOKEN; remove it there",
    ]
    for run in session.runs:
        assert run["reason"] in session.output
    assert "Traceback" not in session.output
    assert find_traces(session) == []


# ------------------------------------------------------------------------------------------------ by-ways

LEAKS = {
    "a passed variable in a reason": """
def pytest_metaharness_propose(request):
    return Proposal(status="unavailable", reason=f"refused {PLAIN}")
""",
    "the variable that api_key names": """
def pytest_metaharness_propose(request):
    return Proposal(status="unavailable", reason=f"refused {os.environ['GATEWAY']}")
""",
    "names of logs and targets of links": """
def pytest_metaharness_propose(request):
    (request.log_dir / f"session-of-{PASSWORD}.log").write_text("x")
    (request.log_dir / "latest").symlink_to(PASSWORD)
    return Proposal(status="completed")
""",
    "logs of a proposal that ends the trial": """
def pytest_metaharness_propose(request):
    (request.log_dir / "log").write_text(PASSWORD)
    raise BackendError("not logged in")
""",
    "what a provider prints": """
def pytest_metaharness_propose(request):
    print(PASSWORD)
    return Proposal(status="crash", reason="died")
""",
    "the warning about an observer that raised": """
def pytest_metaharness_propose(request):
    return Proposal(status="completed")
def pytest_metaharness_candidate(candidate):
    raise ValueError(f"cannot post with {PASSWORD}")
""",
    "a hook that raised": """
def pytest_metaharness_propose(request):
    return Proposal(status="completed")
def pytest_metaharness_objective():
    raise ValueError(f"cannot post with {PASSWORD}")
""",
    "a nonsense answer cut short": """
def pytest_metaharness_propose(request):
    return "x" * (300 - len("the backend gave '") - 12) + PASSWORD
""",
    "across the cut between head and tail": """
def pytest_metaharness_propose(request):
    request.run(["bash", "-c", f"head -c {(1 << 17) - 12} /dev/zero | tr '\\\\0' x; echo {PASSWORD}; seq 100000"])
    return Proposal(status="completed")
""",
}
LEAKING = """
import os
from pytest_metaharness import BackendError, Proposal
PASSWORD, PLAIN = os.environ["CORP_PASSWORD"], os.environ["PLAIN"]
"""


@pytest.mark.parametrize("provider", LEAKS.values(), ids=LEAKS)
def test_no_other_way_out(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    secrets = {"PLAIN": "cleartext-of-it", "GATEWAY": "gate-pass-of-it"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    target = {
        "goal": "Tell nobody.",
        "gate": {"best": 1},
        "checks": {"a": {"run": "false"}},
        "backends": {"mine": {"provider": "mine", "env": ["PLAIN", "CORP_PASSWORD"], "api_key": "GATEWAY"}},
    }
    write_files(
        pytester.path, {"metaharness.yaml": json.dumps(target), "conftest.py": LEAKING + provider, "baseline/a.md": "a"}
    )
    args = ("--metaharness=mine", "--metaharness-retries=0", "--junitxml=.metaharness/tested/junit.xml")
    session = run_session(pytester, *args)
    begun = tuple(value[:12] for value in (*secrets.values(), SECRETS["CORP_PASSWORD"]))
    assert session.trial.exists()
    assert find_traces(session, of=begun) == []


def test_feedback_is_cut_after_its_secrets_are_blotted_out(pytester: pytest.Pytester) -> None:
    escaped = "".join(f"\\u{ord(char):04x}" for char in SECRETS["CORP_PASSWORD"])
    verdict = '{"score": 0, "feedback": "%s%s"}' % ("x" * 1990, escaped)  # noqa: UP031 - braces
    files = {"baseline/verdict": verdict, "metaharness.yaml": 'goal: x\nchecks: {a: {score: "cat verdict"}}\n'}
    write_files(pytester.path, files)
    session = run_session(pytester)
    assert session.feedback()["a"] == "x" * 1990 + "***"
