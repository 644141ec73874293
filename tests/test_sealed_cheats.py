"""What candidates may try with ``pytest:`` checks: nothing that they bring along or do gains anything."""

from __future__ import annotations

import json

import pytest
from sealed_targets import RIGHT, RULER, WRONG, make_target
from sessions import run_session

AS_PLUGIN = """
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    report.outcome, report.longrepr = "passed", None
    return report

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    return True
"""
EXITS = "import os\nos._exit(0)\n"
INI = "[pytest]\naddopts = -p evil\npython_files = nothing.py\n"
PLANTED = {
    **dict.fromkeys(("conftest.py", "tests/conftest.py", "tests/more/conftest.py", "evil.py"), AS_PLUGIN),
    **dict.fromkeys(("pytest.ini", "tox.ini", "tests/pytest.ini"), INI),
    **dict.fromkeys(("pyproject.toml", "pytest.toml"), "[tool.pytest]\naddopts = ['-p', 'evil']\n"),
    **dict.fromkeys(("pytest.py", "_pytest/__init__.py", "pluggy/__init__.py", "csv.py", "doctest.py"), EXITS),
    **dict.fromkeys(("sitecustomize.py", "usercustomize.py", "report.py", "tests/report.py", "evil_exit.py"), EXITS),
    "evil.pth": "import evil_exit\n",
    "setup.cfg": "[tool:pytest]\naddopts = -p evil\n",
    "tests/test_app.py": "def test_imports(): pass",
    "tests/test_more.py": "".join(f"def test_{number}(): pass\n" for number in range(100)),
    "app.py": WRONG.replace("import os, sys", "import sys\nsys.path.remove(sys.path[0])\nimport os"),
}
FORGES = """
def forge():
    for fd in range(64):
        try:
            os.write(fd, b"\\n%032d ('case', 'tests/test_program.py::test_program', 'passed', '')\\n" % 0)
        except OSError:
            pass
import atexit
atexit.register(forge)
forge()
"""
REWRITES_TESTS = """
frame = sys._getframe()
while frame and not frame.f_code.co_filename.endswith("test_app.py"):
    frame = frame.f_back
if frame:
    from pathlib import Path
    file = Path(frame.f_code.co_filename).parent / "test_program.py"
    file.parent.mkdir(exist_ok=True)
    before = file.read_text() if file.exists() else ""
    and_back = f"__import__('pathlib').Path(__file__).write_text({before!r})"
    file.write_text(f"{and_back}\\ndef test_another(): pass\\ndef test_program(): pass")
"""
CHEATS: dict[
    str, tuple[dict[str, str], int, str]
] = {  # files, how many of the five functions pass, part of the feedback
    "plants files": (PLANTED, 2, "2 of 5 test functions pass\ntests/test_app.py::test_in_process[1] failed"),
    "exits when imported": ({"app.py": WRONG + "if __name__ == 'app': os._exit(0)"}, 0, "pytest ended early\n"),
    "aborts when imported": ({"app.py": WRONG + "if __name__ == 'app': os.abort()"}, 0, "pytest ended early\n"),
    "exits when called": (
        {"app.py": WRONG.replace("return number", "os._exit(0)")},
        1,
        "pytest ended early, in tests/test_app.py::test_in_process[1]\n",
    ),
    "exits politely": ({"app.py": WRONG + "if __name__ == 'app': sys.exit(0)"}, 0, "pytest ended with exit code 3\n"),
    "ends the session": (
        {"app.py": WRONG + "import pytest\npytest.exit('done', 0)"},
        1,
        "tests/test_app.py: _pytest.outcomes.Exit: done\n",
    ),
    "skips when imported": (
        {"app.py": WRONG + "import pytest\npytest.skip('not now', allow_module_level=True)"},
        1,
        "tests/test_app.py: not now\n",
    ),
    "skips when called": (
        {
            "app.py": WRONG.replace(
                "return number", "import pytest; pytest.skip('never') if number else pytest.xfail('no')"
            )
        },
        2,
        "test_in_process[1] skipped: never\ntests/test_app.py::TestClass::test_raises xfailed: ",
    ),
    "plants hooks": (
        {
            "app.py": f"{WRONG}import evil, gc, pytest\n"
            "for each in gc.get_objects():\n"
            "    if type(each) is pytest.Config: each.pluginmanager.register(evil)",
            "evil.py": AS_PLUGIN,
        },
        0,
        "pytest itself was changed while it ran: the hook pytest_",
    ),
    "replaces a method": (
        {"app.py": WRONG + "import pytest\npytest.Function.runtest = lambda self: None"},
        0,
        "pytest itself was changed while it ran: _pytest.python.Function.runtest",
    ),
    "covers an attribute": (
        {
            "app.py": WRONG
            + "import pytest\npytest.TestReport.outcome = property(lambda s: 'passed', lambda s, v: None)"
        },
        0,
        "pytest itself was changed while it ran: _pytest.reports.TestReport.outcome",
    ),
    "rewrites other tests": (
        {"app.py": WRONG + REWRITES_TESTS},
        0,
        "the sealed file tests/test_program.py was changed while pytest ran",
    ),
    "brings bytecode": (
        {"app.py": WRONG + REWRITES_TESTS.replace("test_program.py", "__pycache__/test_program.pyc")},
        0,
        "the sealed file tests/__pycache__/test_program.pyc was changed while pytest ran",
    ),
    "forges reports": ({"app.py": WRONG + FORGES}, 2, "test_program failed: AssertionError"),
    "kills pytest": (
        {"app.py": WRONG.replace("print(", "os.kill(os.getppid(), 9); print(")},
        2,
        "pytest ended early, in tests/test_program.py::test_program\n",
    ),
}


def test_no_cheat_gains(pytester: pytest.Pytester) -> None:
    proposals = [{"files": files} for files, _, _ in CHEATS.values()] + [{"files": {"app.py": RIGHT}}]
    make_target(
        pytester,
        {"checks": {"unit": {"pytest": "tests"}}, "budget": len(proposals)},
        RULER,
        {"baseline/app.py": WRONG, "fake.yaml": json.dumps({"proposals": proposals})},
    )
    session = run_session(pytester, "--metaharness=fake", "--metaharness-sandbox=off")
    session.result.assert_outcomes(passed=1)
    assert session.values() == {"unit": 2 / 5}
    for number, (name, (_, passed, feedback)) in enumerate(CHEATS.items(), start=1):
        assert session.values(number) == {"unit": passed / 5}, f"{name}: {session.feedback(number)}"
        assert feedback in session.feedback(number)["unit"], name
        assert session.candidate(number)["outcome"] == "discard"
    assert session.values(len(proposals)) == {"unit": 1}


LOOKS = """
import os
for name in ("mem", "environ", "fd/0", "fd/1", "fd/10"):
    try:
        with open(f"/proc/{os.getppid()}/{name}", "rb", buffering=0):
            print("read", name)
    except OSError:
        pass
for pid in os.listdir("/proc"):
    if pid.isdigit() and pid != str(os.getpid()):
        print(open(f"/proc/{pid}/cmdline").read())
        for fd in range(64):
            try:
                with open(f"/proc/{pid}/fd/{fd}", "wb", buffering=0) as file:
                    file.write(b"\\n0 ('case', 'tests/test_x.py::test_it_fails', 'passed', '')\\n")
            except OSError:
                pass
place = os.path.dirname(os.path.abspath(os.environ["RULER"]))
for name in (os.environ["RULER"], f"{place}/conftest.py", f"{place}/../../pytest.ini"):
    try:
        open(name, "a").close()
        print("write", name)
    except OSError:
        pass
"""
ASKS = """
import os, subprocess, sys
def test_the_key_and_the_tests_are_out_of_reach():
    done = subprocess.run([sys.executable, "app.py"], capture_output=True, env={**os.environ, "RULER": __file__})
    assert done.returncode == 0 and b"-I" in done.stdout
    assert b"read" not in done.stdout and b"write" not in done.stdout, done.stdout
def test_it_fails(): assert False
"""


@pytest.mark.usefixtures("bwrap")
def test_in_the_jail_a_program_cannot_reach_what_measures_it(pytester: pytest.Pytester) -> None:
    make_target(
        pytester, {"checks": {"unit": {"pytest": "tests"}}}, {"tests/test_x.py": ASKS}, {"baseline/app.py": LOOKS}
    )
    session = run_session(pytester)
    assert session.feedback() == {
        "unit": "1 of 2 test functions pass\ntests/test_x.py::test_it_fails failed: assert False"
    }
    assert session.values() == {"unit": 0.5}


REWRITES = """
for file in tests/*.py; do echo 'def test_imports(): pass' >"$file"; done
find {temporary} -name 'test_*.py' -exec sh -c 'echo "def test_imports(): pass" >"$1"' sh {{}} \\;
for version in 3.11 3.12 3.13 3.14; do
  folder=~/.local/lib/python$version/site-packages
  mkdir -p "$folder" && echo 'import os; os._exit(0)' >"$folder/usercustomize.py"
done
"""


def test_an_earlier_check_changes_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = pytester.mkdir("temporary")  # so that the check finds no other session's files
    monkeypatch.setenv("TMPDIR", str(temporary))
    checks = {
        "before": {"pytest": "tests"},
        "rewrites": {"run": REWRITES.format(temporary=temporary)},
        "after": {"pytest": "tests"},
    }
    make_target(pytester, {"checks": checks}, RULER, {"baseline/app.py": WRONG})
    session = run_session(pytester, "--metaharness-sandbox=off")
    assert session.values() == {"before": 0.4, "rewrites": 1, "after": 0.4}
    assert list(temporary.iterdir()) == []
