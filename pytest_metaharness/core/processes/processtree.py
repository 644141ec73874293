"""Start a program so that it and whatever it starts can be ended for certain: in a jail, or under a guardian.

A jail is a process namespace of its own: when its first process dies, the kernel ends all others in it. Elsewhere
``guardian.py`` stands between us and the program. Both report by lines of JSON on a pipe, the *status*.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
import uuid
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import MetaharnessError, SandboxError
from . import guardian
from .descriptors import find_inheritable, open_pipe, wait_readable
from .watcher import start_watcher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .sandbox import Jail

PATIENCE_S = 10.0
"""The kernel ends a killed process at once, unless it hangs in a device or forks without end: then we give up."""

_Stdio = tuple[int, int, int]
_CATCHABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
_ERRORS = {os.strerror(number): number for number in range(1, 134)}


class ProgramError(MetaharnessError):
    """A program that cannot be started; *errno* is the system's reason where it is known."""

    def __init__(self, program: str, reason: str, errno: int | None) -> None:
        super().__init__(f"cannot start {program!r}: {reason}")
        self.program = program
        self.errno = errno


class Tree(ABC):
    """A program that was started, with all its descendants.

    *status* becomes readable when :meth:`read_status` should be called. *returncode*, *started* and *ended* (by the
    monotonic clock) are filled as they become known.
    """

    def __init__(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdio: _Stdio) -> None:
        self.argv = tuple(argv)
        self.cwd = cwd
        self.env = dict(env)
        self.returncode: int | None = None
        self.started: float | None = None
        self.ended: float | None = None
        self.is_over = False  # the process that we started, guardian or bubblewrap, has ended
        self._exit: int | None = None
        self._unread = b""
        self.status, status_given = open_pipe()
        try:
            self._pid = self._start(stdio, status_given)
        except BaseException:
            os.close(self.status)
            raise
        finally:
            os.close(status_given)

    def read_status(self) -> None:
        """Take in what there is on *status*."""
        data = os.read(self.status, 4096)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError):  # from a program of root's that got hold of the pipe
                self._learn(msgspec.json.decode(line, type=dict[str, Any]))
        self.is_over = not data

    def end(self) -> None:
        """Kill every process of the tree and wait until none is left. To be called once.

        :raises MetaharnessError: one cannot be ended.
        """
        try:
            if not self._end(time.monotonic() + PATIENCE_S):
                message = f"'{self.argv[0]}': its processes cannot be ended"
                raise MetaharnessError(message)
        finally:
            os.close(self.status)

    @abstractmethod
    def terminate(self) -> None:
        """Send SIGTERM to every process of the tree."""

    @abstractmethod
    def explain(self, stderr: str) -> MetaharnessError:
        """Say why there is no return code, although nobody ended the tree; *stderr* is what it wrote."""

    @abstractmethod
    def _start(self, stdio: _Stdio, status: int) -> int: ...

    @abstractmethod
    def _learn(self, report: dict[str, Any]) -> None: ...

    @abstractmethod
    def _end(self, deadline: float) -> bool: ...

    def _spawn(self, argv: list[str], given: Mapping[int, int]) -> int:
        """Start our own process in a session of its own; its descriptors are *given*: there -> here.

        Not by ``subprocess``: a KeyboardInterrupt before that has returned would lose the process.
        """
        lifted = {there: number for number, there in enumerate(given, max(*given, *given.values()) + 1)}
        actions: list[tuple[int, ...]] = []  # by way of numbers nobody uses, so that none takes another's place
        actions += [(os.POSIX_SPAWN_DUP2, here, lifted[there]) for there, here in given.items()]
        actions += [(os.POSIX_SPAWN_DUP2, lifted[there], there) for there in given]
        actions += [(os.POSIX_SPAWN_CLOSE, number) for number in lifted.values()]
        strays = [(os.POSIX_SPAWN_CLOSE, stray) for stray in find_inheritable() if stray not in given]
        try:
            return os.posix_spawn(
                argv[0],
                argv,
                self.env,
                file_actions=[*actions, *strays],
                setsid=True,
                setsigmask=(),
                setsigdef=_CATCHABLE,
            )
        except OSError as error:
            raise ProgramError(self.argv[0], error.strerror or str(error), error.errno) from None
        except ValueError as error:  # a null byte
            raise ProgramError(self.argv[0], str(error), None) from None

    def _explain_folder(self, number: int) -> ProgramError:
        reason = f"its working folder {self.cwd} cannot be entered: {os.strerror(number)}"
        return ProgramError(self.argv[0], reason, number)

    def _wait(self, deadline: float) -> bool:
        """Read *status* until our own process is over, then collect it; False when the deadline came first."""
        while not self.is_over:
            if not wait_readable(self.status, deadline - time.monotonic()):
                return False
            self.read_status()
        try:
            self._exit = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        except ChildProcessError:  # somebody else in this process collects every child
            self._exit = None
        return True


class GuardedTree(Tree):
    """A program under a guardian, which ends the tree on its own when this process is gone."""

    def __init__(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdio: _Stdio) -> None:
        self._token = uuid.uuid4().hex
        self._failure: dict[str, Any] | None = None
        super().__init__(argv, cwd=cwd, env={**env, guardian.TREE_VARIABLE: self._token}, stdio=stdio)

    def terminate(self) -> None:
        """Have the guardian do it, which knows them all."""
        try:
            os.write(self._control, guardian.TERMINATE)
        except BrokenPipeError:
            return  # the guardian is over, and its tree with it

    def explain(self, stderr: str) -> MetaharnessError:
        """Tell a program that cannot be started from a guardian that broke."""
        if self._failure is None:
            return MetaharnessError(f"'{self.argv[0]}': its guardian failed: {stderr.strip()[-500:]}")
        number = self._failure["failed"]
        if self._failure["folder"]:
            return self._explain_folder(number)
        return ProgramError(self.argv[0], os.strerror(number), number)

    def _start(self, stdio: _Stdio, status: int) -> int:
        control, self._control = open_pipe()
        try:
            first = max(*stdio, control, status) + 1
            given = {**dict(enumerate(stdio)), first: control, first + 1: status}
            options = (str(first), str(first + 1), str(os.getpid()), str(self.cwd), "--")
            return self._spawn(guardian.command(*options, *self.argv), given)
        except BaseException:
            os.close(self._control)
            raise
        finally:
            os.close(control)

    def _learn(self, report: dict[str, Any]) -> None:
        if "failed" in report:
            self._failure = report
        self.started = report.get("started", self.started)
        self.returncode = report.get("returncode", self.returncode)
        self.ended = report.get("ended", self.ended)

    def _end(self, deadline: float) -> bool:
        os.close(self._control)
        guardian.send([self._pid], signal.SIGCONT)  # the program may have stopped its guardian
        is_over = self._wait(deadline)
        if is_over and self._exit == 0:
            return True
        if self.returncode is None and self._exit is not None and self._exit < 0:
            self.returncode = self._exit  # who but the program would kill its guardian
        return end_carriers(self._token, time.monotonic() + PATIENCE_S) and is_over


class JailedTree(Tree):
    """A program in a jail, which the kernel ends with the thread that started it.

    The jail's first process asks for that only when all is mounted: some milliseconds in which it would go on alone,
    were we killed. That is what the watcher is for; the variable by which it knows the jail is not passed on in there.
    """

    def __init__(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdio: _Stdio, jail: Jail, stdout_at: int
    ) -> None:
        self._jail = jail
        self._stdout_at = stdout_at
        self._init = 0  # the first process of the jail, by its pid out here
        self._init_start = 0
        super().__init__(argv, cwd=cwd, env={**env, guardian.TREE_VARIABLE: start_watcher(os.getpid())}, stdio=stdio)

    def terminate(self) -> None:
        """Send it from out here; the first process of the jail is bubblewrap's own."""
        if self._init:
            guardian.send(guardian.descendants(self._init), signal.SIGTERM)

    def explain(self, stderr: str) -> MetaharnessError:
        """Tell a program that cannot be started from a jail that broke."""
        first = stderr.strip().partition("\n")[0]
        prefix = f"bwrap: execvp {self.argv[0]}: "
        if first.startswith(prefix):
            reason = first.removeprefix(prefix)
            return ProgramError(self.argv[0], f"{reason} (in the jail)", _ERRORS.get(reason))
        return SandboxError(f"the jail for '{self.argv[0]}' failed: {first or f'bwrap ended with {self._exit}'}")

    def _start(self, stdio: _Stdio, status: int) -> int:
        if not self.cwd.is_dir():
            raise self._explain_folder(errno.ENOENT)
        there = max(*stdio, status, self._stdout_at) + 1
        path = self.env.get("PATH", os.defpath)
        bwrap, *options = self._jail.wrap(self.argv, cwd=self.cwd, path=path, status_fd=there)
        command = [bwrap, "--unsetenv", guardian.TREE_VARIABLE, *options]
        given = {**dict(enumerate(stdio)), there: status}
        if self._stdout_at == 1:
            return self._spawn(command, given)
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - a device
            return self._spawn(command, {**given, 1: nothing.fileno(), self._stdout_at: stdio[1]})

    def _learn(self, report: dict[str, Any]) -> None:
        if "child-pid" in report:
            self.started = time.monotonic()
            self._init = report["child-pid"]
            self._init_start = guardian.read_state(self._init)[1]
        if "exit-code" in report:
            self.ended = time.monotonic()
            self.returncode = report["exit-code"]

    def _end(self, deadline: float) -> bool:
        while not self._init and not self.is_over and wait_readable(self.status, deadline - time.monotonic()):
            self.read_status()  # its first process has to be known; bubblewrap names it at once
        self._kill_init()
        guardian.send([self._pid], signal.SIGKILL)
        is_over = self._wait(deadline)
        while self._kill_init():  # it is gone, or a zombie, only after all others in the jail
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0005)
        try:
            os.waitpid(self._init, os.WNOHANG)
        except ChildProcessError:  # as usual: it is ours only while this process adopts orphans
            return is_over
        return is_over

    def _kill_init(self) -> bool:
        """Kill the first process of the jail; False when it is dead already."""
        state, start = guardian.read_state(self._init)
        is_alive = state not in guardian.DEAD and start == self._init_start
        if is_alive:
            guardian.send([self._init], signal.SIGKILL)
        return is_alive


def start_tree(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdio: _Stdio, jail: Jail | None, stdout_at: int = 1
) -> Tree:
    """Start *argv* with exactly *env*, plus the guardian's variable where there is no jail.

    *stdio*: the descriptors, all above 2, of its standard input, output and error. In a jail the second can be given to
    it as *stdout_at*, with nothing as its standard output.

    :raises ProgramError: it cannot be started, as far as that shows at once.
    :raises SandboxError: there is no bubblewrap.
    """
    if jail is None:
        return GuardedTree(argv, cwd=cwd, env=env, stdio=stdio)
    return JailedTree(argv, cwd=cwd, env=env, stdio=stdio, jail=jail, stdout_at=stdout_at)


def end_carriers(token: str, deadline: float) -> bool:
    """Kill every process that carries *token* until none is left; False when the deadline came first."""
    while alive := [pid for pid in guardian.carriers(token) if guardian.is_alive(pid)]:
        if time.monotonic() > deadline:
            return False
        guardian.send(alive, signal.SIGKILL)
        time.sleep(0.001)
    return True
