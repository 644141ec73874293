"""Plugins of others that raise in the hooks of reporting: what was found is in the report wherever pytest lets us."""

from __future__ import annotations

import pytest
from faults import DONE, check_nothing_left, read_statuses, write_case
from sessions import Session, run_session, serial_and_xdist

PLUGIN = """
import glob
import pytest

@pytest.hookimpl({how})
def {hook}():
    if glob.glob(".metaharness/*/*/c0002"):  # from the end of the first trial on
        raise ValueError("not my day")
    {end}
"""
PLAIN = ("tryfirst=True", "")
WRAPPER = ("wrapper=True, tryfirst=True", "return (yield)")
STYLES = pytest.mark.parametrize(
    ("style", "workers"),
    [(PLAIN, ()), (WRAPPER, ()), (PLAIN, ("-n1",))],  # of two workers one may be through before the other breaks
    ids=["plain-serial", "wrapper-serial", "plain-xdist"],
)


@pytest.fixture(autouse=True)
def _own_temporary_folder(monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> None:
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("tmp")))


def run_with(pytester: pytest.Pytester, hook: str, style: tuple[str, str], *args: str) -> Session:
    """Run a session beside a plugin whose *hook* raises."""
    how, end = style
    pytester.makepyfile(broken=PLUGIN.format(hook=hook, how=how, end=end))
    pytester.syspathinsert()
    write_case(pytester.path, first="finish", second="finish")
    return run_session(pytester, "--metaharness=mine", "-p", "broken", *args)


def check_found(session: Session, *, is_whole: bool) -> None:
    """See that the session failed, and that all it found is in its report: both runs, or as far as it came."""
    assert session.result.ret not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    endings = read_statuses(session.runs)
    assert set(endings) == {"first", "second"} if is_whole else endings
    assert all(ending == DONE for ending in endings.values())
    assert (session.folder / "report.tsv").exists()
    assert (session.folder / "ledger.tsv").exists()
    check_nothing_left(session.folder.parents[1])


@STYLES
@pytest.mark.parametrize(
    "hook",
    [
        "pytest_runtest_logreport",
        "pytest_runtest_logfinish",
        "pytest_runtest_makereport",
        "pytest_report_teststatus",
    ],
)
def test_one_that_breaks_the_session_off(
    pytester: pytest.Pytester, hook: str, style: tuple[str, str], workers: tuple[str, ...]
) -> None:
    session = run_with(pytester, hook, style, *workers)
    check_found(session, is_whole=False)
    session.result.stdout.fnmatch_lines(["* metaharness *", "trial *", "report: .metaharness/tested/report.json *"])


@STYLES
@pytest.mark.parametrize("hook", ["pytest_sessionfinish", "pytest_terminal_summary", "pytest_unconfigure"])
def test_one_that_breaks_the_end(
    pytester: pytest.Pytester, hook: str, style: tuple[str, str], workers: tuple[str, ...]
) -> None:
    session = run_with(pytester, hook, style, *workers)
    check_found(session, is_whole=True)
    if hook == "pytest_unconfigure" or (hook, style) == ("pytest_terminal_summary", PLAIN):
        session.result.stdout.fnmatch_lines(["second/metaharness.yaml::mine *", "report: *"])


def test_one_that_breaks_the_end_of_a_worker(pytester: pytest.Pytester) -> None:
    session = run_with(pytester, "pytest_report_to_serializable", PLAIN, "-n1")
    check_found(session, is_whole=False)


@serial_and_xdist
def test_ones_own_hooks(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    session = run_with(pytester, "pytest_metaharness_report", PLAIN, *workers)
    check_found(session, is_whole=True)
    session.result.stdout.fnmatch_lines(["pytest_metaharness_report: ValueError: not my day; its changes are lost"])
    assert "Traceback" not in session.output


def test_a_result_that_never_arrives_fails_the_session(pytester: pytest.Pytester) -> None:
    """pytest-xdist sometimes ends well when its workers break down at the same time."""
    write_case(
        pytester.path,
        more="""
import pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(call):
    report = yield
    if call.when == "call":
        vars(report).pop("metaharness")
    return report
""",
        first="finish",
    )
    session = run_session(pytester, "--metaharness=mine", "-n1")
    check_found(session, is_whole=False)
    session.result.stdout.fnmatch_lines(["first/metaharness.yaml::mine: pytest never got its result, its worker *"])
