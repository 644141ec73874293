"""``pytest:`` checks through the front door: what passes, what misses, and what is said about it."""

from __future__ import annotations

import venv
from pathlib import Path

import psutil
import pytest
from sealed_targets import RIGHT, RULER, WRONG, make_target
from sessions import Session, run_session, write_files

# ----------------------------------------------------------------------------------------------------- honest work

CONFTEST = """
import os, sys
import pytest

@pytest.fixture(scope="session")
def two():
    return 2

def pytest_generate_tests(metafunc):
    if "generated" in metafunc.fixturenames:
        metafunc.parametrize("generated", [1, 2])
"""
ALL_KINDS = """
import asyncio, os, subprocess, sys, unittest
from pathlib import Path
import pytest
import app
from app.inner import double

@pytest.fixture
def test_client():
    return app

@pytest.mark.parametrize("number", [0, 1, "a::b", "[x]"])
def test_with_parameters(number, two):
    assert double(number) == number * two

def test_generated(generated, test_client): test_client.inner.double(generated)

class TestClass:
    def helper(self): return 2
    def test_method(self): assert double(1) == self.helper()
    @staticmethod
    def test_static(): pass
    class TestInner:
        def test_method(self): pass

class Shared:
    def test_shared(self): assert double(self.number) == 2 * self.number

class TestOne(Shared): number = 1
class TestTwo(Shared): number = 2

class Cases(unittest.TestCase):
    def test_case(self):
        with self.subTest("one"):
            self.assertEqual(double(1), 2)

class TestNothing:
    __test__ = False
    def test_never(self): assert False

if sys.version_info > (3,):
    def test_in_a_block(): pass

def test_of_subtests(subtests):
    with subtests.test("one"): pass

@pytest.mark.xfail(strict=False)
def test_that_passes_unexpectedly(): pass

def test_as_a_program():
    done = subprocess.run([sys.executable, "-m", "app", "4"], capture_output=True, text=True, check=True)
    assert done.stdout == "8\\n"
    assert "PYTEST_DISABLE_PLUGIN_AUTOLOAD" not in os.environ

def test_finds_its_data(tmp_path):
    assert Path(__file__).with_name("data.txt").read_text() == "sealed"
    assert Path("app/inner.py").exists(), "works in the checkout"
    (tmp_path / "a").touch()
"""
APP = {
    "baseline/app/__init__.py": "from . import inner",
    "baseline/app/inner.py": "def double(number): return number * 2\n",
    "baseline/app/__main__.py": "import sys\nfrom .inner import double\nprint(double(int(sys.argv[1])))\n",
    "baseline/src/library.py": "NAME = 'of the candidate'\n",
}
WORKS = {
    "tests/conftest.py": CONFTEST,
    "tests/test_all_kinds.py": ALL_KINDS,
    "tests/data.txt": "sealed",
    "tests/build/test_not_looked_into.py": "def test_x(): assert False",
    # an ini file of the author's own, with other names, and pythonpath for the sealed files and the checkout alike
    "own/pytest.ini": "[pytest]\npython_files = check_*.py\npython_classes = *Suite\npython_functions = it_*\n"
    "pythonpath = ../src ..\naddopts = -x --strict-markers\nmarkers = quick\n",
    "own/check_names.py": "import library, shared, pytest\npytestmark = pytest.mark.quick\n"
    "def it_works(): assert library.NAME == 'of the candidate' and shared.NAME == 'of the author'\n"
    "def test_nothing(): assert False\n"
    "class NameSuite:\n    def it_works_too(self): assert 'shared.py' in shared.__file__\n",
    "own/test_other.py": "def test_x(): assert False",
    "shared.py": "NAME = 'of the author'\n",
    "package/__init__.py": "",
    "package/helpers.py": "def help(): return 1",
    "package/conftest.py": "from .helpers import help\nimport pytest\n@pytest.fixture\ndef one(): return help()\n",
    "package/test_imports.py": "from .helpers import help\nfrom package import helpers\n"
    "def test_x(one): assert one == help() == helpers.help()\n",
    "twins/a/test_same.py": "def test_x(): pass",
    "twins/b/test_same.py": "def test_x(): pass",
    "single.py": "def test_x(): pass",
}


def read_counts(session: Session, number: int = 0) -> dict[str, tuple[float, float]]:
    return {
        check["id"]: (check["metrics"]["passed"], check["metrics"]["total"])
        for check in session.candidate(number)["checks"]
        if check["metrics"]
    }


def test_honest_work_passes(pytester: pytest.Pytester, sandbox_mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-v")
    monkeypatch.setenv("PYTHONPATH", ".")
    checks = {
        "folder": {"pytest": "tests/", "env": ["PYTHONPATH", "PYTEST_ADDOPTS"]},
        "own": {"pytest": "./own"},
        "package": {"pytest": "package/test_imports.py"},
        "twins": {"pytest": "twins"},
        "file": {"pytest": "single.py"},
    }
    make_target(pytester, {"checks": checks}, WORKS, APP)
    session = run_session(pytester, f"--metaharness-sandbox={sandbox_mode}")
    session.result.assert_outcomes(passed=1)
    assert session.feedback() == dict.fromkeys(checks, "")
    assert session.values() == dict.fromkeys(checks, 1)
    assert read_counts(session) == {
        "folder": (13, 13),
        "own": (2, 2),
        "package": (1, 1),
        "twins": (2, 2),
        "file": (1, 1),
    }


def test_the_candidate_comes_before_the_same_package_in_editable_form(pytester: pytest.Pytester) -> None:
    venv.create(pytester.path / "venv", symlinks=True)
    (packages,) = pytester.path.glob("venv/lib/python*/site-packages")
    installed = Path(pytest.__file__).parent.parent
    editable = write_files(pytester.mkdir("editable"), {"app.py": WRONG})
    (packages / "all.pth").write_text(f"import site; site.addsitedir({str(installed)!r})\n{editable}\n")
    target = {"checks": {"unit": {"pytest": "tests"}}}
    make_target(pytester, target, RULER, {"baseline/app.py": RIGHT})
    python = pytester.path / "venv" / "bin" / "python"
    result = pytester.run(
        python, "-m", "pytest", "--metaharness-name=tested", "--metaharness-sandbox=off", "metaharness.yaml"
    )
    session = Session(result=result, folder=pytester.path / ".metaharness" / "tested")
    assert session.feedback() == {"unit": ""}
    assert session.values() == {"unit": 1}


# ------------------------------------------------------------------------------------------------------- what misses

MISSES = {
    "outcomes/test_outcomes.py": """
import pytest, sys

@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_case_of_three(number): assert number != 2, "is two"

def test_passes(): pass

@pytest.mark.skip(reason="not today")
def test_skipped(): pass

@pytest.mark.xfail
def test_expected_to_fail(): assert False

@pytest.mark.xfail(strict=True, reason="why not")
def test_strictly_expected_to_fail(): pass

@pytest.mark.parametrize("number", [])
def test_without_cases(number): pass

@pytest.fixture
def breaks():
    yield
    raise OSError("at the end")
def test_teardown(breaks): pass
def test_setup(missing): pass
def test_exits(): sys.exit(0)
def test_subtests(subtests):
    with subtests.test("one"): assert False
async def test_async(): pass
""",
    "at-run-time/test_made.py": """
from made import *
def test_counted(): pass
""",
    "at-run-time/pytest.ini": "[pytest]\npythonpath = .",
    "at-run-time/made.py": "def test_made(): assert False\ndef test_made_and_passes(): pass\n",
    "errors/test_syntax.py": "def test_x(: pass",
    "errors/test_import.py": "import no_such_module\ndef test_x(): pass\ndef test_y(): pass",
    "errors/test_fine.py": "def test_z(): pass",
    "broken/test_broken.py": "import lib.faulty\ndef test_x(): pass",
    "conf/conftest.py": "import lib.faulty",
    "conf/test_x.py": "def test_x(): pass",
    "in-parallel/pytest.ini": "[pytest]\naddopts = -p xdist -n1",
    "in-parallel/test_x.py": "def test_x(): pass",
    "slow/test_slow.py": "import subprocess\ndef test_a(): pass\ndef test_b(): subprocess.run(['sleep', '4246'])",
    "installed/test_installed.py": "import yaml\ndef test_x(): assert yaml.safe_load('1') == 1",
    "app/test_app.py": "import app\ndef test_x(): assert app.double(1) == 2",
}
MISSED = {  # value and feedback; feedback that ends in "..." is only the beginning
    "outcomes": (
        1 / 11,
        """\
1 of 11 test functions pass
outcomes/test_outcomes.py::test_one_case_of_three[2] failed: AssertionError: is two
assert 2 != 2
outcomes/test_outcomes.py::test_skipped skipped: not today
outcomes/test_outcomes.py::test_expected_to_fail xfailed: assert False
outcomes/test_outcomes.py::test_strictly_expected_to_fail failed: [XPASS(strict)] why not
outcomes/test_outcomes.py::test_without_cases[NOTSET] skipped: got empty parameter set for (number)
outcomes/test_outcomes.py::test_teardown failed: OSError: at the end
outcomes/test_outcomes.py::test_setup failed: fixture 'missing' not found
outcomes/test_outcomes.py::test_exits failed: SystemExit: 0
outcomes/test_outcomes.py::test_subtests failed: contains 1 failed subtest
outcomes/test_outcomes.py::test_async failed: Failed: async def functions are not natively supported...""",
    ),
    "at-run-time": (0.5, "1 of 2 test functions pass\nat-run-time/test_made.py::test_made failed: AssertionError"),
    "errors": (
        0.25,
        """\
1 of 4 test functions pass
errors/test_import.py: ModuleNotFoundError: No module named 'no_such_module'
errors/test_syntax.py: File "errors/test_syntax.py", line 1
def test_x(: pass
^
SyntaxError: invalid syntax
not run: errors/test_import.py::test_x, errors/test_import.py::test_y, errors/test_syntax.py""",
    ),
    "broken": (
        0,
        """\
0 of 1 test functions pass
broken/test_broken.py: File "lib/faulty.py", line 1...""",
    ),
    "conf": (
        0,
        """\
0 of 1 test functions pass
pytest ended with exit code 4
not run: conf/test_x.py::test_x
ImportError while loading conftest 'conf/conftest.py'...""",
    ),
    "in-parallel": (
        0,
        """\
0 of 1 test functions pass
pytest ended with exit code 4
not run: in-parallel/test_x.py::test_x
ERROR: sealed tests run in one process: leave out '-n'""",
    ),
    "slow": (0, "timed out after 0.5 s\n..."),
    "installed": (1, "'yaml' is the installed package of that name, not the candidate's"),
    "app": (
        0,
        """\
'app' is the sealed folder of that name, which hides the candidate's: rename the folder
0 of 1 test functions pass
app/test_app.py::test_x failed: AttributeError: module 'app' has no attribute 'double'""",
    ),
}


def test_what_misses_is_told(pytester: pytest.Pytester) -> None:
    checks = {name: {"pytest": name} for name in MISSED} | {"slow": {"pytest": "slow", "timeout": 0.5}}
    files = {"baseline/lib/faulty.py": "def x(:", "baseline/yaml.py": "", "baseline/app.py": "def double(x): pass"}
    make_target(pytester, {"checks": checks}, MISSES, files)
    session = run_session(pytester)
    session.result.assert_outcomes(passed=1)
    assert session.values() == {name: value for name, (value, _) in MISSED.items()}
    for name, feedback in session.feedback().items():
        expected = MISSED[name][1]
        assert (feedback[: len(expected) - 3] + "..." if expected.endswith("...") else feedback) == expected
    assert not [process for process in psutil.process_iter(["cmdline"]) if "4246" in (process.info["cmdline"] or ())]


def test_a_check_without_test_functions_is_the_targets_fault(pytester: pytest.Pytester) -> None:
    make_target(pytester, {"checks": {"unit": {"pytest": "tests"}}}, {"tests/test_x.py": "a = 1"}, {"baseline/a": ""})
    session = run_session(pytester)
    assert session.result.ret == pytest.ExitCode.TESTS_FAILED
    assert "pytest: there are no test functions in the sealed files 'tests'" in session.output
    assert "Traceback" not in session.output
    assert session.run["status"] == "failed"
