"""The one place that starts programs: bounded output, bounded time, and nothing left running."""

from __future__ import annotations

import gc
import os
import selectors
import signal
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..errors import MetaharnessError
from . import guardian
from .interrupts import Interrupts, postponed_interrupts
from .processtree import PATIENCE_S, ProgramError, Tree, start_tree
from .streams import Captured, Listener, Streams

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .sandbox import Jail

__all__ = ["Captured", "Completed", "Listener", "ProgramError", "host_environment", "run", "start_tool", "tracking"]

_DRAIN_S = 0.5  # for what is left in the pipes; longer only if a process outside the tree holds them open
_LONGEST_WAIT_S = 3600.0  # the system's calls do not take any number
_PASSED_VARIABLES = ("LANG", "LANGUAGE", "TZ", "USER", "LOGNAME")


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a program.

    *returncode* is ``None`` when we killed it. Otherwise it is as in ``subprocess``, a signal as a negative number;
    but 128 + the signal in the jail, where bubblewrap passes it on like a shell. A program that ended by itself in the
    grace after its timeout has both *timed_out* and a return code. *duration_s* is without our own overhead.
    """

    argv: tuple[str, ...]
    returncode: int | None
    timed_out: bool
    stdout: Captured
    stderr: Captured
    duration_s: float


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,
    stdin: bytes = b"",
    jail: Jail | None = None,
    merge_stderr: bool = False,
    stdout_at: int = 1,
    grace: float = 0.0,
    on_line: Listener | None = None,
    on_stderr_line: Listener | None = None,
    keep_bytes: int = 256 * 1024,
) -> Completed:
    """Run a program until it ends or its time (seconds) is up, and end whatever it started before returning.

    Its environment is *env* and ``PWD``; without a jail also METAHARNESS_TREE, by which we find its processes. Without
    *stdin* it reads ``/dev/null``. Of each stream the first and last half of *keep_bytes* are kept. *on_line* gets
    every line of standard output without its newline, those above LONGEST_LINE excepted, *on_stderr_line* those of
    standard error; they must be quick. What they raise ends the program, and so does ``True``, which they give when
    that is enough of it. At the timeout all processes get SIGTERM, *grace* seconds later SIGKILL.

    In a jail the stream of standard output can be given to the program as descriptor *stdout_at* instead: the first
    process of the jail, which any other there can look into, then does not hold it.

    In the main thread, what a signal handler raises (Ctrl-C, an alarm) ends the tree first and is raised then; a second
    Ctrl-C cannot disturb that. In another thread nothing interrupts the call, and a jailed program dies with that
    thread.

    :raises ProgramError: the program, or its working folder, is not there or must not be used.
    :raises SandboxError: the jail broke.
    :raises MetaharnessError: a process could not be ended.
    """
    folder = cwd.absolute()
    began = time.monotonic()
    with postponed_interrupts() as interrupts, ExitStack() as cleanup:
        streams = Streams(
            stdin=stdin,
            merge_stderr=merge_stderr,
            keep_bytes=keep_bytes,
            on_line=on_line,
            on_stderr_line=on_stderr_line,
        )
        cleanup.callback(streams.close)
        tree = start_tree(
            argv, cwd=folder, env={**env, "PWD": str(folder)}, stdio=streams.given, jail=jail, stdout_at=stdout_at
        )
        try:
            streams.listen()
            timed_out = _attend(tree, streams, interrupts, began + timeout, grace)
            is_killed = tree.returncode is None and not tree.is_over
            ended = tree.ended or time.monotonic()
        finally:
            tree.end()
        if interrupts.pending is None:
            streams.drain(time.monotonic() + _DRAIN_S)
    stdout, stderr = (kept.give() for kept in streams.kept)
    returncode = None if is_killed else tree.returncode
    if returncode is None and not is_killed:
        raise tree.explain((stdout if merge_stderr else stderr).text())
    return Completed(
        argv=tree.argv,
        returncode=returncode,
        timed_out=timed_out,
        stdout=stdout,
        stderr=stderr,
        duration_s=ended - (tree.started or began),
    )


@contextmanager
def tracking() -> Iterator[None]:
    """End every process that Python code in the block started, also one that made its own session or lost its parent.

    These are the children that this process did not have before, in any of its threads, and what descends from them;
    on Linux orphans become our children for the time of the block. Elsewhere they are found by a variable put into
    ``os.environ``.

    :raises MetaharnessError: one cannot be ended.
    """
    token = uuid.uuid4().hex
    outer = os.environ.get(guardian.TREE_VARIABLE)
    before = {pid: guardian.read_state(pid) for pid in guardian.descendants(os.getpid())}
    adopted = guardian.adopt_orphans(True)
    try:
        os.environ[guardian.TREE_VARIABLE] = token
        yield
    finally:
        with postponed_interrupts():
            if outer is None:
                os.environ.pop(guardian.TREE_VARIABLE, None)
            else:
                os.environ[guardian.TREE_VARIABLE] = outer
            _end_newcomers({pid: start for pid, (_, start) in before.items()}, token)
            guardian.adopt_orphans(adopted)


def host_environment(home: Path, tmp: Path) -> dict[str, str]:
    """Give the variables that every program gets, and no other of the user's.

    PATH begins with the folder of the running interpreter, so that ``python`` is the one that runs pytest; where none
    there has that name (Debian's has ``python3`` only), a link in a folder ``bin`` beside *home* stands for it.
    Relative entries of PATH, which would lead into the candidate, are left out.
    """
    folders = [str(Path(sys.executable).parent), *os.environ.get("PATH", os.defpath).split(os.pathsep)]
    if not os.path.exists(Path(sys.executable).with_name("python")):  # noqa: PTH110 - it may be out of reach
        folders.insert(0, str(_link_python(home.parent / "bin")))
    environment = {
        "PATH": os.pathsep.join(dict.fromkeys(folder for folder in folders if folder.startswith("/"))),
        "HOME": str(home),
        "TMPDIR": str(tmp),
        "TERM": "dumb",
    }
    for name, value in os.environ.items():
        if name in _PASSED_VARIABLES or name.startswith("LC_"):
            environment[name] = value
    if guardian.IS_LINUX and not environment.keys() & {"LANG", "LC_ALL", "LC_CTYPE"}:
        environment["LANG"] = "C.UTF-8"  # else the same candidate measures differently where nobody chose a language
    return environment


def _link_python(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("python", "python3"):
        with suppress(FileExistsError):
            (folder / name).symlink_to(sys.executable)
    return folder


def start_tool(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program that is trusted to end with its input, such as git; all three streams are pipes.

    In a session of its own, so that Ctrl-C does not stop it in the middle of writing.
    """
    return subprocess.Popen(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _attend(tree: Tree, streams: Streams, interrupts: Interrupts, deadline: float, grace: float) -> bool:
    """Serve a program until it ends, it is enough, something interrupts us, or its time and grace are up.

    Tells whether time was.
    """
    selector = streams.selector
    selector.register(tree.status, selectors.EVENT_READ, tree.read_status)
    selector.register(interrupts, selectors.EVENT_READ, lambda: None)
    timed_out = False
    while tree.returncode is None and not (tree.is_over or streams.is_enough) and interrupts.pending is None:
        left = deadline - time.monotonic()
        if left > 0:
            for key, _ in selector.select(min(left, _LONGEST_WAIT_S)):
                key.data()
        elif timed_out or grace <= 0:
            timed_out = True
            break
        else:
            timed_out = True
            deadline = time.monotonic() + grace
            tree.terminate()
    selector.unregister(tree.status)
    selector.unregister(interrupts)
    return timed_out


def _end_newcomers(before: Mapping[int, int], token: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        known = {pid for pid, start in before.items() if guardian.read_state(pid)[1] == start}
        newcomers = guardian.descendants(os.getpid(), apart_from=known)
        alive = [pid for pid in {*newcomers, *guardian.carriers(token)} if guardian.is_alive(pid)]
        if not alive:
            _collect(newcomers)
            return
        if time.monotonic() > deadline:
            message = f"processes that a backend or check has started cannot be ended: {sorted(alive)}"
            raise MetaharnessError(message)
        guardian.send(alive, signal.SIGKILL)
        time.sleep(0.001)


def _collect(zombies: Iterable[int]) -> None:
    """Collect orphans that came to us, so that nobody takes their zombies for living processes.

    Not those for which a ``Popen`` exists: it would never learn its return code.
    """
    if not zombies:
        return
    popens = (each for each in gc.get_objects() if issubclass(type(each), subprocess.Popen))
    claimed = {popen.pid for popen in popens if getattr(popen, "returncode", 0) is None}
    for pid in zombies:
        if pid not in claimed:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
