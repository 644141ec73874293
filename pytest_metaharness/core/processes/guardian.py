"""Start one program, end its whole tree, and end it too when the process that asked for it is gone.

``processtree.py`` imports its functions, and starts it as a program of its own: :func:`command`. That takes a few
milliseconds, which nearly every check waits for, because it imports nothing but small modules of the standard library;
keep it so.

It reads one pipe (*control*) and writes another (*status*). End of file on *control* means: end the tree now; the
letter ``T`` means: send SIGTERM to every process of the tree. The lines on *status* are JSON objects:
``{"started": t}`` or ``{"failed": errno, "folder": 0 or 1}``, then ``{"returncode": n, "ended": t}`` as soon as the
program itself ended. Times are of the system-wide monotonic clock. This process exits when nothing of the tree is left.

With WATCH it starts no program: it waits for the end of who asked for it, and then ends what carries a token.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import time

TYPE_CHECKING = False  # as in typing, whose import would cost more than all the others together
if TYPE_CHECKING:
    import signal
    from collections.abc import Container, Iterable
else:
    import _signal as signal  # it lacks the enumerations, which take half as long to make as Python takes to start

TREE_VARIABLE = "METAHARNESS_TREE"
"""The variable by which processes are found whose guardian is dead; its value is different for every tree."""

TERMINATE = b"T"
WATCH = "--watch"
DISMISS = b"D"
"""What stands on *control* when that process ends by itself, and there is nothing to do."""

WATCH_S = 0.5
"""Seconds in which what it has started at the last moment shows itself."""

_START = "import sys; sys.path.append(sys.argv[1]); import guardian; sys.exit(guardian.main(sys.argv[2:]))"
"""Not by the file's name: what Python runs as a script, it compiles each time anew."""

DEAD = frozenset({"", "Z", "X", "x"})
"""States of a process that will do nothing more; empty when it does not exist."""

IS_LINUX = sys.platform == "linux"
_SET_PDEATHSIG = 1  # <linux/prctl.h>
_SET_DUMPABLE = 4
_SET_CHILD_SUBREAPER = 36
_GET_CHILD_SUBREAPER = 37


def command(*arguments: str) -> list[str]:
    """Give the command line by which this file is started as a program."""
    return [sys.executable, "-I", "-S", "-c", _START, __file__.rpartition("/")[0], *arguments]


def adopt_orphans(adopt: bool) -> bool:
    """Make orphaned descendants children of this process (Linux), also those that made their own session.

    Returns what the setting was before.
    """
    if not IS_LINUX:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    before = ctypes.c_int(0)
    libc.prctl(_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)
    return bool(before.value)


def descendants(root: int, apart_from: Container[int] = ()) -> dict[int, int]:
    """Find the processes below *root*, zombies included: pid -> process group.

    Left out are those of *apart_from* with all that is below them.
    """
    below: dict[int, list[tuple[int, int]]] = {}
    for pid, parent, group in _read_all():
        below.setdefault(parent, []).append((pid, group))
    found: dict[int, int] = {}
    pending = [root]
    while pending:
        children = [child for child in below.get(pending.pop(), []) if child[0] not in apart_from]
        found.update(children)
        pending += [pid for pid, _ in children]
    return found


def is_alive(pid: int) -> bool:
    """Tell whether *pid* exists and is no zombie."""
    state, _ = read_state(pid)
    return state not in DEAD


def read_state(pid: int) -> tuple[str, int]:
    """Read the state letter (empty: no such process) and the start time (0 where unknown) of *pid*.

    A pid with another start time is another process.
    """
    if not IS_LINUX:
        return read_command("ps", "-o", "stat=", "-p", str(pid)).decode().strip()[:1], 0
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return (fields[0].decode(), int(fields[19])) if fields else ("", 0)


def carriers(token: str) -> list[int]:
    """Find the processes of this user that were started with TREE_VARIABLE set to *token*; never this one."""
    mark = f"{TREE_VARIABLE}={token}".encode()
    if IS_LINUX:
        found = [pid for pid in _all_pids() if mark in _read(f"/proc/{pid}/environ").split(b"\0")]
    else:
        lines = read_command("ps", "-axEwwo", "pid=,command=").splitlines()
        found = [int(line.split()[0]) for line in lines if mark in line.split()]
    return [pid for pid in found if pid != os.getpid()]


def send(pids: Iterable[int], signum: int) -> None:
    """Send *signum* to each of *pids* that still exists and is ours."""
    for pid in pids:
        try:
            os.kill(pid, signum)
        except (ProcessLookupError, PermissionError):
            continue  # gone meanwhile, or made privileged: nobody but root can end it


def read_command(*argv: str) -> bytes:
    """Run a small program of the system and read its output; here since ``subprocess`` is slow to import."""
    reading, writing = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, writing, 1)]
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
    os.close(writing)
    output = b"".join(iter(lambda: os.read(reading, 65536), b""))
    os.close(reading)
    os.waitpid(pid, 0)
    return output


def _read(path: str) -> bytes:
    """Read a file of /proc; empty when its process is gone or belongs to somebody else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return b"".join(iter(lambda: os.read(descriptor, 65536), b""))
    except OSError:  # ESRCH: the process ended while it was read
        return b""
    finally:
        os.close(descriptor)


def _all_pids() -> list[int]:
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def _read_all() -> list[tuple[int, int, int]]:
    """Read pid, parent and process group of every process."""
    if not IS_LINUX:
        lines = read_command("ps", "-axo", "pid=,ppid=,pgid=").splitlines()
        return [(int(pid), int(parent), int(group)) for pid, parent, group in map(bytes.split, lines)]
    stats = ((pid, _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()) for pid in _all_pids())
    return [(pid, int(fields[1]), int(fields[2])) for pid, fields in stats if fields]


# ---------------------------------------------------------------------------------------------------- the program


class _Guarded:
    """The program and what it started, seen from their common ancestor."""

    def __init__(self, status: int, environment: dict[bytes, bytes]) -> None:
        self.status = status
        self.environment = environment
        self.program = 0
        self.ended = False

    def start(self, argv: list[str]) -> bool:
        """Start the program in a session of its own; report the reason where that fails."""
        began = time.monotonic()
        defaults = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
        try:
            self.program = os.posix_spawnp(
                argv[0], argv, self.environment, setsid=True, setsigmask=(), setsigdef=defaults
            )
        except OSError as error:
            self.report(f'"failed": {error.errno}, "folder": 0')
            return False
        self.report(f'"started": {began!r}')
        return True

    def report(self, members: str) -> None:
        try:
            os.write(self.status, f"{{{members}}}\n".encode())
        except BrokenPipeError:
            return  # nobody is left who wants to know; the tree still has to be ended

    def reap(self) -> bool:
        """Collect what ended and report the program's own end; False when no child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.program:
                self.ended = True
                self.report(f'"returncode": {os.waitstatus_to_exitcode(status)}, "ended": {time.monotonic()!r}')

    def members(self) -> dict[int, int]:
        found = descendants(os.getpid())
        if not IS_LINUX:  # orphans belong to launchd there; they still carry the token
            for pid in carriers(self.environment[TREE_VARIABLE.encode()].decode()):
                found.setdefault(pid, pid)
        return found

    def end(self, wake: int) -> None:
        """Kill until nothing is left: there is no way back from here, and nobody else to do it."""
        woken = select.poll()
        woken.register(wake, select.POLLIN)
        rounds = 0
        while self.reap() or (not IS_LINUX and any(map(is_alive, self.members()))):
            if rounds > 1:
                self.chase()
                self.freeze()
            members = self.members()
            send({-group for group in members.values()}, signal.SIGKILL)  # at once, so that no fork gets away
            send(members, signal.SIGKILL)
            rounds += 1
            if woken.poll(min(rounds, 50)):
                os.read(wake, 4096)

    def chase(self) -> None:
        """Kill our children among the newest processes of the system, for a moment.

        Of a program that forks and exits at once nothing but the child is left by the time a list of all is complete.
        """
        until = time.monotonic() + 0.02
        while IS_LINUX and time.monotonic() < until and self.reap():
            newest = int(_read("/proc/loadavg").split()[-1])
            for pid in (newest, newest - 1):
                if _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1:2] == [b"%d" % os.getpid()]:
                    send([pid], signal.SIGKILL)

    def freeze(self) -> None:
        """Stop every process before any is killed: else one that forks groups of its own is always a child ahead."""
        stopped: set[int] = set()
        for _ in range(100):
            moving = self.members().keys() - stopped
            if not moving:
                return
            send(moving, signal.SIGSTOP)
            stopped |= moving


def _read_environment() -> dict[bytes, bytes]:
    """Read the variables this process was started with: Python itself may have added LC_CTYPE since."""
    pairs = _read("/proc/self/environ").split(b"\0") if IS_LINUX else []
    given = dict(pair.split(b"=", 1) for pair in pairs if b"=" in pair)
    return given or dict(os.environb)


def _settle(*descriptors: int) -> int:
    """Hold nothing but *descriptors*, and let no signal end us; gives what is readable when one comes."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    with os.scandir("/dev/fd") as entries:
        inherited = {int(entry.name) for entry in entries} - {0, 1, 2, *descriptors}
    for descriptor in inherited:
        os.closerange(descriptor, descriptor + 1)  # one of them was the listing's own
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for signum in (signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(signum, lambda *_: None)
    if IS_LINUX:  # in case somebody else, a fork of the parent, holds the pipe open too
        ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGUSR1, 0, 0, 0)
    return wake


def _watch(control: int, token: str) -> int:
    _settle(control)
    os.chdir("/")
    if os.read(control, 1) == DISMISS:
        return 0
    until = time.monotonic() + WATCH_S
    while (alive := [pid for pid in carriers(token) if is_alive(pid)]) or time.monotonic() < until:
        send(alive, signal.SIGKILL)
        time.sleep(0.005)
    return 0


def _guard(control: int, status: int, parent: int, folder: str, argv: list[str]) -> int:
    wake = _settle(control, status)
    adopt_orphans(True)
    tree = _Guarded(status, _read_environment())
    if IS_LINUX:  # so that the program cannot reach into our pipes through /proc (root can)
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        os.chdir(folder)
    except OSError as error:
        tree.report(f'"failed": {error.errno}, "folder": 1')
        return 0
    if not tree.start(argv):
        return 0
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # so that the readers see the end of file when the program's last process is gone
        os.dup2(null, descriptor)

    events = select.poll()
    events.register(control, select.POLLIN)
    events.register(wake, select.POLLIN)
    while tree.reap() and not tree.ended and os.getppid() == parent:
        ready = dict(events.poll())
        if wake in ready:
            os.read(wake, 4096)
        if control in ready:
            command = os.read(control, 16)
            if not command:
                break
            if TERMINATE in command:
                send(tree.members(), signal.SIGTERM)
    tree.end(wake)
    return 0


def main(argv: list[str]) -> int:
    """Do what *argv*, that of :func:`command`, says."""
    if argv[0] == WATCH:
        return _watch(int(argv[1]), argv[2])
    control, status, parent, folder, _separator, *program = argv
    return _guard(int(control), int(status), int(parent), folder, program)
