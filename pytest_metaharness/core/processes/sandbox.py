"""The jail that checks and backends run in, made by bubblewrap, and whether this machine can have it.

In the jail everything is read-only but what is named writable; private places (HOME, /tmp, /run, /var/tmp) are empty
but for what programs need to run. All capabilities are dropped, so that it holds for root too.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from ..errors import MetaharnessError, SandboxError
from ..folders import temporary_folder
from .process import host_environment, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

NOT_ENFORCED = "writing outside the workspace, reading private files and using the network are not prevented"

_BIN_NAMES = frozenset({"bin", "sbin"})
_BIN_SIBLINGS = ("bin", "sbin", "lib", "lib64", "libexec")
_PREFIX_PARTS = (*_BIN_SIBLINGS, "include", "share", "pyvenv.cfg")
_SHARED_PLACES = ("/tmp", "/run", "/var/run", "/var/tmp")  # noqa: S108 - emptied, not used
_KERNEL_SETTINGS = (
    "acpi", "bus", "driver", "dynamic_debug", "fs", "irq", "mtrr", "pressure", "scsi", "sys", "sysrq-trigger", "tty"
)  # fmt: skip
_SOCKET = re.compile(rb"^[0-9a-f]+:(?: [0-9A-F]+){5} +\d+ (/.*)$", re.MULTILINE)  # a line of /proc/net/unix
_RESOLV_CONF = Path("/etc/resolv.conf")
_MOST_LINKS = 40  # as the kernel: then it is a loop
_PROBE = 'echo inside >"$1/probe"; echo outside >"$2/probe"; exit 0'

_Kind = Literal["empty", "read", "write"]


class Jail(msgspec.Struct, frozen=True, kw_only=True):
    """What a program may touch. Folders need not be given with their links resolved.

    *writable* shows through everything else; *hidden* appears empty; *readable* matters only inside a place that is
    emptied anyway. Where one lies in another the inner one counts for its part.
    """

    writable: tuple[Path, ...]
    hidden: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    network: bool = False

    def wrap(self, argv: Sequence[str], *, cwd: Path, path: str, status_fd: int) -> list[str]:
        """Give the command line that runs *argv* in the jail; *path* is the PATH it will have.

        bubblewrap has to be started with the very environment that the program shall see: it shows in the jail's
        ``/proc/1/environ``.

        :raises SandboxError: there is no bubblewrap.
        """
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            raise SandboxError("bwrap (bubblewrap) is not installed")
        command = [bwrap, "--cap-drop", "ALL", "--unshare-pid", "--unshare-ipc", "--new-session", "--die-with-parent"]
        if not self.network:
            command.append("--unshare-net")
        command += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
        for place in _find_kernel_settings():
            command += ["--ro-bind", place, place]
        command += self._mount(cwd, path)
        command += ["--chdir", str(cwd), "--json-status-fd", str(status_fd), "--", *argv]
        return command

    def _mount(self, cwd: Path, path: str) -> list[str]:
        """Give the mounts, outer ones first, then the links that lead to what is visible."""
        around = _survey(path, os.environ.get("HOME", ""), self.network)
        mounts: dict[Path, _Kind] = dict(around.mounts)
        mounts |= dict.fromkeys(_resolve(self.readable), "read")
        mounts |= dict.fromkeys(_resolve(self.hidden), "empty")
        mounts |= dict.fromkeys((folder.resolve() for folder in self.writable), "write")
        for place in _find_sockets():
            if place not in mounts and not any(place.is_relative_to(folder) for folder in self.writable):
                mounts[place] = "empty"
        arguments: list[str] = []
        visible: dict[Path, _Kind] = {Path("/"): "read", Path("/dev"): "empty", Path("/proc"): "empty"}
        for place in sorted(mounts):
            kind = mounts[place]
            outside = _find_around(place, visible)
            if kind == "write":
                arguments += ["--bind", str(place), str(place)]
            elif kind == "read" and outside == "empty":
                arguments += ["--ro-bind", str(place), str(place)]
            elif kind == "empty" and outside != "empty":
                arguments += ["--tmpfs", str(place)] if place.is_dir() else ["--ro-bind", os.devnull, str(place)]
            else:
                continue
            visible[place] = kind
        own = {link for way in (cwd, *self.readable, *self.writable) for link in _find_links(way)}
        for link, target in sorted(around.links | own):
            if _find_around(link, visible) == "empty":
                arguments += ["--symlink", target, str(link)]
        return arguments


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """Whether programs are jailed; *notice* is the line that says what is not enforced when they are not."""

    mode: Literal["bwrap", "none"]
    notice: str | None = None

    def jail(
        self,
        *,
        writable: tuple[Path, ...],
        hidden: tuple[Path, ...] = (),
        readable: tuple[Path, ...] = (),
        network: bool = False,
    ) -> Jail | None:
        """Give the jail for one program, ``None`` where programs are not jailed."""
        if self.mode == "none":
            return None
        return Jail(writable=writable, hidden=hidden, readable=readable, network=network)


def choose_sandbox(mode: Literal["auto", "bwrap", "off"]) -> Sandbox:
    """Find out, once per process, whether jails work here; ``auto`` does without where they do not.

    :raises SandboxError: *mode* is ``bwrap`` and no jail can be had; says why.
    """
    if mode == "off":
        return Sandbox(mode="none", notice=f"sandbox: switched off; {NOT_ENFORCED}")
    trouble = _try_jail()
    if trouble is None:
        return Sandbox(mode="bwrap")
    if mode == "bwrap":
        message = f"sandbox 'bwrap' cannot be used: {trouble}"
        raise SandboxError(message)
    return Sandbox(mode="none", notice=f"sandbox: none ({trouble}); {NOT_ENFORCED}")


def program_roots(executable: Path, path: str) -> tuple[Path, ...]:
    """Find the folders that *executable* needs to run: its installation, and that of its interpreter (found on *path*).

    For ``Jail.readable``. Of programs in ``node_modules`` that is the outermost such folder.
    """
    roots = [executable, *_installation(executable.resolve())]
    interpreter = _read_shebang(executable, path)
    if interpreter is not None:
        roots += [interpreter, *_installation(interpreter.resolve())]
    return tuple(dict.fromkeys(roots))


def _resolve(places: Iterable[Path]) -> Iterator[Path]:
    """Resolve links and drop what does not exist, or not for this user."""
    return (place for place in (each.resolve() for each in places) if os.access(place, os.F_OK))


class _Surroundings(NamedTuple):
    """What every jail has: *mounts*, and the links on the ways to what is shown in them, with their targets."""

    mounts: Mapping[Path, _Kind]
    links: frozenset[tuple[Path, str]]


@functools.lru_cache
def _survey(path: str, home: str, network: bool) -> _Surroundings:
    """Find what programs need that are found on *path*; looked up once, since it takes longer than starting a jail."""
    entries = [Path(entry) for entry in path.split(os.pathsep) if entry.startswith("/")]
    needed = [*_interpreter_roots(), *(root for entry in entries for root in _folder_roots(entry.resolve()))]
    if network:
        needed.append(_RESOLV_CONF)
    mounts: dict[Path, _Kind] = dict.fromkeys(_resolve(needed), "read")
    mounts |= dict.fromkeys((*_emptied_places(home), *_find_root_secrets()), "empty")
    ways = (Path(sys.executable), *entries, *needed)
    return _Surroundings(mounts, frozenset(link for way in ways for link in _find_links(way)))


def _find_sockets() -> Iterator[Path]:
    """Find the sockets of the host's programs: a read-only mount does not keep anybody from connecting to one."""
    try:
        table = Path("/proc/net/unix").read_bytes()
    except OSError:
        return
    for name in set(_SOCKET.findall(table)):  # those bound by a relative path cannot be found
        with contextlib.suppress(OSError):
            place = Path(os.fsdecode(name)).resolve()
            if place.is_socket():
                yield place


def _find_around(place: Path, visible: Mapping[Path, _Kind]) -> _Kind:
    """Tell how the surroundings of *place* are mounted so far."""
    return next(visible[parent] for parent in (place, *place.parents) if parent in visible)


@functools.cache
def _try_jail() -> str | None:
    """Run a program in the strictest jail; gives what is wrong, ``None`` when nothing is."""
    if sys.platform != "linux":
        return "bubblewrap needs Linux"
    with temporary_folder("probe") as folder:
        inside, outside = folder / "inside", folder / "outside"
        inside.mkdir()
        outside.mkdir()
        jail = Jail(writable=(inside,), readable=(outside,))
        argv = ("sh", "-c", _PROBE, "sh", str(inside), str(outside))
        try:
            run(argv, cwd=inside, env=host_environment(inside, inside), timeout=30, jail=jail)
        except MetaharnessError as error:
            return str(error)
        if not Path(inside, "probe").exists():
            return "bwrap runs programs, but nothing can be written in its jail"
        if Path(outside, "probe").exists():
            return "bwrap runs programs, but its jail lets them write outside"
    return None


def _emptied_places(home: str) -> tuple[Path, ...]:
    """Find the places that may hold other people's, or the user's own, secrets and sockets."""
    homes = [home]
    try:
        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a user without an entry, as containers have
        homes.append("")
    places = (Path(place).resolve() for place in (*homes, *_SHARED_PLACES) if place.startswith("/"))
    return tuple(dict.fromkeys(place for place in places if place.is_dir() and place != Path("/")))


def _is_private(folder: Path) -> bool:
    """Tell whether *folder* as a whole would bring back more than one installation."""
    return any(place.is_relative_to(folder) for place in _emptied_places(os.environ.get("HOME", "")))


def _find_kernel_settings() -> Iterator[str]:
    """Find what root could change the whole machine with: it owns these files and needs no capability for them.

    Through ``core_pattern`` it could even leave the jail. bubblewrap takes care of some of them only. For other users
    nothing is covered, since they could not start a jail within the jail then, as Codex does.
    """
    if os.geteuid() == 0:
        yield from (place for name in _KERNEL_SETTINGS if os.access(place := f"/proc/{name}", os.F_OK))


def _find_root_secrets() -> Iterator[Path]:
    """Find what the system keeps from all users but root, who needs no capability to read it."""
    if os.geteuid() == 0:
        etc = Path("/etc")
        places = (etc / "shadow", etc / "gshadow", etc / "ssl/private", *etc.glob("ssh/ssh_host_*_key"))
        yield from (place for place in places if place.exists())


def _interpreter_roots() -> Iterator[Path]:
    for prefix in (Path(sys.prefix), Path(sys.base_prefix)):
        if _is_private(prefix.resolve()):
            yield from (prefix / part for part in _PREFIX_PARTS)
        else:
            yield prefix


def _folder_roots(folder: Path) -> Iterator[Path]:
    """Give what belongs to a folder of programs; never all of its parent: in ~/.cargo and ~/.local there are keys."""
    if folder.name in _BIN_NAMES:
        yield from (folder.with_name(name) for name in _BIN_SIBLINGS)
    elif folder.name == "shims" and not _is_private(folder.parent):
        yield folder.parent
    elif not _is_private(folder):
        yield folder


def _installation(program: Path) -> Iterator[Path]:
    if "node_modules" in program.parts:
        yield Path(*program.parts[: program.parts.index("node_modules") + 1])
    else:
        yield from _folder_roots(program.parent)


def _read_shebang(executable: Path, path: str) -> Path | None:
    """Find the program that runs the script *executable*."""
    try:
        with executable.open("rb") as script:
            line = script.readline(256)
    except OSError:
        return None
    found = re.match(rb"#!\s*(\S+)(?:\s+(?:-S\s+)?(\S+))?", line)
    if found is None:
        return None
    interpreter, argument = (os.fsdecode(part or b"") for part in found.groups())
    if Path(interpreter).name == "env" and argument:
        located = shutil.which(argument, path=path)
        return Path(located) if located else None
    return Path(interpreter)


def _find_links(place: Path) -> Iterator[tuple[Path, str]]:
    """Give every symbolic link met on the way to *place*, with its target as written."""
    parts = list(reversed(place.absolute().parts[1:]))
    at = Path("/")
    for _ in range(_MOST_LINKS):
        while parts:
            part = parts.pop()
            step = at.parent if part == ".." else at / part
            try:
                is_link = step.is_symlink()
            except PermissionError:  # what this user may not look into, its programs need not reach
                return
            if is_link:
                break
            at = step
        else:
            return
        target = str(step.readlink())
        yield step, target
        at = Path("/") if target.startswith("/") else at
        parts += reversed(Path(target).parts[1:] if target.startswith("/") else Path(target).parts)
