"""Before anything is spent every backend is looked at once; ``--metaharness-probe`` shows what was found."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from sessions import make_target, run_session

IMITATION = """\
#!/bin/bash
# imitates a codex that says it is done
echo "$1" >> "$(dirname "$0")/calls"
case "$1" in
  --version) {version} ;;
  *) cat > /dev/null; echo good > a.txt; echo '{{"type":"turn.completed"}}' ;;
esac
"""

TARGET = """
goal: x
checks: {{good: {{contains: {{path: a.txt, all: [good]}}}}}}
backends:
  mine: {{provider: codex, executable: {program}, base_url: "http://127.0.0.1:{port}/v1"}}
"""


@pytest.fixture
def port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    return number


def make_backend(
    pytester: pytest.Pytester, port: int, *, version: str = "echo imitation 1.2", name: str = "words"
) -> Path:
    program = pytester.path / "imitation-of-codex"
    program.write_text(IMITATION.format(version=version))
    program.chmod(0o755)
    make_target(pytester.path / name, TARGET.format(program=program, port=port), a_txt="bad")
    return program.with_name("calls")


def listening(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def test_each_backend_is_probed_once_for_all_workers(pytester: pytest.Pytester, port: int) -> None:
    for name in ("one", "two"):
        calls = make_backend(pytester, port, name=name)
    with listening(port):
        session = run_session(
            pytester, "--metaharness=mine", "--metaharness-sandbox=off", "--metaharness-trials=2", "-n4"
        )
    session.result.assert_outcomes(passed=4)
    assert sorted(calls.read_text().split()) == ["--version", *["exec"] * 4]


def test_a_version_may_be_told_on_standard_error(pytester: pytest.Pytester, port: int) -> None:
    make_backend(pytester, port, version="echo imitation 1.3 >&2")
    with listening(port):
        result = pytester.runpytest_subprocess("--metaharness=mine", "--metaharness-probe", "--metaharness-sandbox=off")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["mine     yes    imitation 1.3 *"])


def test_a_program_that_does_not_start_is_an_error_and_costs_nothing(pytester: pytest.Pytester, port: int) -> None:
    calls = make_backend(pytester, port, version="echo cannot find module >&2; exit 3")
    result = pytester.runpytest_subprocess("--metaharness=mine", "--metaharness-sandbox=off", "--metaharness-trials=3")
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(
        ["backend 'mine': *imitation-of-codex --version` ended with exit code 3: cannot find module; reinstall *"]
    )
    assert calls.read_text().split() == ["--version"]
    assert not (pytester.path / ".metaharness").exists()


def test_a_local_server_that_is_not_there_is_an_error(pytester: pytest.Pytester, port: int) -> None:
    make_backend(pytester, port)
    result = pytester.runpytest_subprocess("--metaharness=mine", "--metaharness-sandbox=off")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [f"backend 'mine': nothing answers at 127.0.0.1:{port} (*); start the server, or correct base_url"]
    )


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["serial", "xdist"])
def test_the_probe_prints_a_table_and_runs_nothing(
    pytester: pytest.Pytester, port: int, workers: tuple[str, ...]
) -> None:
    calls = make_backend(pytester, port)
    asked = ("--metaharness=mine,fakes", "--metaharness-probe", "--metaharness-sandbox=off", *workers)
    result = pytester.runpytest_subprocess(*asked)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "backend  ready  version        credentials*model server  program",
            "mine     no     imitation 1.2  *imitation-of-codex",
            "fakes    no     -  *",
            "sandbox: switched off;*",
            "backend 'mine': nothing answers at *",
            "unknown backend 'fakes' (known: *did you mean 'fake'?)",
        ]
    )
    assert calls.read_text().split() == ["--version"]
    assert not (pytester.path / ".metaharness").exists()
    with listening(port):
        result = pytester.runpytest_subprocess("--metaharness=mine", *asked[1:])
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"mine     yes    imitation 1.2  *127.0.0.1:{port}  *imitation-of-codex"])


def test_the_probe_needs_no_target(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--metaharness=fake", "--metaharness-probe")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["fake     no *", "*fake.yaml*"])
    pytester.makepyprojecttoml('[tool.metaharness.backends.mine]\nprovider = "codex"\nexecutable = "nowhere"\n')
    result = pytester.runpytest_subprocess("--metaharness=mine", "--metaharness-probe")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["mine     no *", "backend 'mine': its executable 'nowhere' was not found; install it *"]
    )


@pytest.mark.parametrize("given", [(), ("--metaharness=baseline",), ("--metaharness=off",)])
def test_the_probe_needs_backends(pytester: pytest.Pytester, given: tuple[str, ...]) -> None:
    result = pytester.runpytest_subprocess("--metaharness-probe", *given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--metaharness-probe needs the backends to look at: --metaharness=NAMES"])
