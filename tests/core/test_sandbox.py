from __future__ import annotations

import os
import pwd
import shlex
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.core.errors import SandboxError
from pytest_metaharness.core.processes import sandbox as sandbox_module
from pytest_metaharness.core.processes.process import Completed, ProgramError, host_environment, run
from pytest_metaharness.core.processes.sandbox import Jail, Sandbox, choose_sandbox, program_roots

Enter = Callable[..., Completed]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def enter(workspace: Path) -> Enter:
    """Run a line of bash in a jail whose only writable folder is the workspace."""
    notice = choose_sandbox("auto").notice
    if notice:
        pytest.skip(notice)

    def enter(script: str, *, env: dict[str, str] | None = None, cwd: Path = workspace, **jail: Any) -> Completed:
        environment = {**host_environment(workspace, workspace), **(env or {})}
        writable = (workspace, *jail.pop("writable", ()))
        argv = ("bash", "-c", script)
        return run(argv, cwd=cwd, env=environment, timeout=20, jail=Jail(writable=writable, **jail))

    return enter


def test_only_the_workspace_can_be_written(enter: Enter, workspace: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept", encoding="utf-8")
    script = f"echo new >inside; echo new >{outside}/file; rm -r {outside}; touch /etc/new /usr/new /new; exit 0"
    completed = enter(script, readable=(outside,))
    assert completed.stderr.text().count("Read-only file system") >= 4
    assert (workspace / "inside").read_text(encoding="utf-8") == "new\n"
    assert (outside / "file").read_text(encoding="utf-8") == "kept"
    assert not any(Path(place).exists() for place in ("/etc/new", "/usr/new", "/new"))


@pytest.mark.parametrize(
    "command",
    [
        "mount -o remount,rw,bind /",
        "mount -t tmpfs none /usr",
        "umount /tmp",
        "chroot / true",
        "mknod node b 7 0",
        "unshare --mount true",
        "cat /proc/sys/kernel/hostname >/proc/sys/kernel/hostname",
        "unshare -Umpf sh -c 'mount -t proc proc . && cat sys/kernel/hostname >sys/kernel/hostname'",
        "test -e /proc/sysrq-trigger && echo h >/proc/sysrq-trigger",
        "mkdir /sys/fs/cgroup/jailed",
    ],
)
def test_privileges_are_gone_for_root_too(enter: Enter, command: str) -> None:
    completed = enter(f"{command} && echo done; grep CapEff /proc/self/status")
    assert completed.stdout.text() == "CapEff:\t0000000000000000\n"


def test_processes_of_the_host_cannot_be_seen(enter: Enter) -> None:
    completed = enter(f"ls /proc | grep -c '^[0-9]*$'; kill -0 {os.getpid()} || echo hidden")
    count, hidden = completed.stdout.text().split()
    assert int(count) < 8
    assert hidden == "hidden"


def test_environment_of_the_caller_cannot_be_seen(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAHARNESS_TEST_SECRET", "hidden-from-the-jail")
    completed = enter("cat /proc/*/environ | tr '\\0' '\\n'", env={"GIVEN": "1"})
    assert "GIVEN=1" in completed.stdout.text()
    assert "hidden-from-the-jail" not in completed.stdout.text()


def test_private_places_are_empty(enter: Enter, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    needed = (sys.prefix, sys.base_prefix, *(str(Path(entry).parent) for entry in os.environ["PATH"].split(":")))
    passed_over = " ".join(f"-path {shlex.quote(folder)} -prune -o" for folder in needed)
    seen = enter(f"find /tmp /run /var/run/ /var/tmp {passed_over} '(' -type f -o -type s ')' -print").stdout.text()
    assert seen.splitlines() == []


def test_home_in_the_table_of_users_is_empty(enter: Enter) -> None:
    entries = [entry for entry in pwd.getpwall() if entry.pw_uid == os.getuid()]
    home = Path(entries[0].pw_dir) if entries else Path("/")
    if home == Path("/") or not home.is_dir():
        pytest.skip("this user has no home")
    assert enter(f"find {home} -maxdepth 1 -type f").stdout.total == 0


def test_home_of_the_caller_is_empty(enter: Enter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/etc")
    assert "passwd" not in enter("ls /etc").stdout.text()
    monkeypatch.setenv("HOME", "/")
    assert "passwd" in enter("ls /etc").stdout.text()


def test_sockets_of_the_host_cannot_be_reached(enter: Enter, tmp_path: Path) -> None:
    folder = Path("/run") if os.access("/run", os.W_OK) else tmp_path
    path = folder / f"metaharness-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        try:
            code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
            completed = enter(f'python -c "{code}"', network=True)
        finally:
            path.unlink()
    assert "FileNotFoundError" in completed.stderr.text()


@pytest.mark.parametrize("network", [False, True])
def test_network_is_there_only_when_asked_for(enter: Enter, network: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        completed = enter(f"exec 3<>/dev/tcp/127.0.0.1/{port}", network=network)
    assert (completed.returncode == 0) is network


def test_names_are_resolved_as_on_the_host(enter: Enter) -> None:
    if not Path("/etc/resolv.conf").is_file():
        pytest.skip("this machine has no resolver")
    completed = enter("cat /etc/resolv.conf", network=True)
    assert completed.stdout.text() == Path("/etc/resolv.conf").read_text(encoding="utf-8")


def test_interpreter_runs_from_wherever_it_is(enter: Enter) -> None:
    completed = enter('python -c "import sys, sysconfig, ssl; print(sys.prefix)"')
    assert completed.stdout.text() == f"{sys.prefix}\n"


def test_hidden_folder_is_empty_and_a_workspace_within_is_not(enter: Enter, tmp_path: Path, workspace: Path) -> None:
    (tmp_path / "sealed").mkdir()
    (tmp_path / "sealed" / "answers").write_text("42", encoding="utf-8")
    (workspace / "file").write_text("x", encoding="utf-8")
    (workspace / "private").mkdir()
    (workspace / "private" / "file").write_text("y", encoding="utf-8")
    hidden = (tmp_path, tmp_path / "sealed", workspace / "private", tmp_path / "missing")
    completed = enter(f"cd {tmp_path}; find . | sort; echo new >workspace/file", hidden=hidden)
    assert completed.stdout.text().split() == [".", "./workspace", "./workspace/file", "./workspace/private"]
    assert (workspace / "file").read_text(encoding="utf-8") == "new\n"


def test_hidden_file_reads_as_nothing(enter: Enter, workspace: Path) -> None:
    (workspace / "login").write_text("token", encoding="utf-8")
    completed = enter("cat login", hidden=(workspace / "login",))
    assert "token" not in completed.stdout.text()


def test_hidden_folder_outside_private_places_is_empty(enter: Enter) -> None:
    assert enter("ls -A /etc; ls -A /usr/lib | head -1", hidden=(Path("/etc"),)).stdout.text().count("\n") == 1


def test_readable_folder_within_a_hidden_one_stays_readable(enter: Enter, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("text", encoding="utf-8")
    completed = enter(f"cat {tmp_path}/a/b/file", hidden=(tmp_path / "a",), readable=(tmp_path / "a" / "b",))
    assert completed.stdout.text() == "text"


def test_links_on_the_way_are_there_too(enter: Enter, tmp_path: Path) -> None:
    (tmp_path / "real" / "bin").mkdir(parents=True)
    tool = tmp_path / "real" / "bin" / "tool-1.0"
    tool.write_text("#!/bin/sh\necho tool\n", encoding="utf-8")
    tool.chmod(0o755)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "tool").symlink_to(tmp_path / "link" / "bin" / "tool-1.0")
    completed = enter(f"{tmp_path}/tool; readlink {tmp_path}/link", readable=(tmp_path / "tool",))
    assert completed.stdout.text() == "tool\nreal\n"


def test_working_folder_behind_a_link(enter: Enter, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(workspace)
    assert enter("pwd; touch here", cwd=tmp_path / "link").stdout.text() == f"{tmp_path / 'link'}\n"
    assert (workspace / "here").exists()


def test_programs_on_the_path_can_be_run_but_their_home_not_seen(
    enter: Enter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bin/tool", "lib/tool/code", "credentials"):
        (tmp_path / "home" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "home" / name).write_text("#!/bin/sh\nls -A $(dirname $0)/..\n", encoding="utf-8")
        (tmp_path / "home" / name).chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = f"{tmp_path / 'home/bin'}:{tmp_path / 'home'}:{os.environ['PATH']}"
    assert enter("tool", env={"PATH": path}).stdout.text() == "bin\nlib\n"


def test_program_that_the_jail_hides_cannot_be_started(workspace: Path, tmp_path: Path, enter: Enter) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n", encoding="utf-8")
    tool.chmod(0o755)
    with pytest.raises(ProgramError, match=r"No such file or directory \(in the jail\)"):
        run([str(tool)], cwd=workspace, env={}, timeout=20, jail=Jail(writable=(workspace,)))


def test_jail_that_breaks_is_not_blamed_on_the_program(enter: Enter, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"the jail for 'bash' failed: bwrap: Can't find source path .*missing"):
        enter("true", writable=(tmp_path / "missing",))


# ------------------------------------------------------------------------------------------------- without a jail


def test_prefix_that_is_home_itself_is_not_shown_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("bin", "lib", ".ssh"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    make_program(tmp_path / "bwrap", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    command = Jail(writable=()).wrap(["true"], cwd=tmp_path, path=str(tmp_path), status_fd=9)
    shown = [command[at + 1] for at, word in enumerate(command) if word == "--ro-bind"]
    assert str(tmp_path / "bin") in shown
    assert str(tmp_path) not in shown
    assert str(tmp_path / ".ssh") not in shown


def make_program(path: Path, first_line: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{first_line}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_roots_of_a_node_program(tmp_path: Path) -> None:
    script = make_program(tmp_path / "node_modules/a/node_modules/b/cli.js", "#!/usr/bin/env node")
    node = make_program(tmp_path / "node/bin/node", "")
    link = tmp_path / "agent"
    link.symlink_to(script)
    roots = program_roots(link, str(node.parent))
    assert {link, tmp_path / "node_modules", node, tmp_path / "node/bin", tmp_path / "node/lib"} <= set(roots)
    assert tmp_path / "node_modules/a" not in roots
    assert tmp_path / "node" not in roots


def test_roots_of_a_program_in_a_folder_of_its_own(tmp_path: Path) -> None:
    interpreter = make_program(tmp_path / "opt/interpreter", "")
    program = make_program(tmp_path / "agent/agent", f"#!{interpreter} -x")
    assert program_roots(program, "") == (program, tmp_path / "agent", interpreter, tmp_path / "opt")


def test_roots_of_a_program_directly_in_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    program = make_program(tmp_path / "agent", "#!/usr/bin/env -S missing-interpreter")
    assert program_roots(program, "") == (program,)


def test_roots_of_a_shim(tmp_path: Path) -> None:
    program = make_program(tmp_path / "versions/shims/agent", "")
    assert tmp_path / "versions" in program_roots(program, "")


def test_switched_off_sandbox_says_what_is_not_enforced() -> None:
    sandbox = choose_sandbox("off")
    assert sandbox.jail(writable=()) is None
    assert sandbox.notice == (
        "sandbox: switched off; writing outside the workspace, reading private files and using the network "
        "are not prevented"
    )


@pytest.mark.parametrize(
    ("bwrap", "reason"),
    [
        (None, "bwrap (bubblewrap) is not installed"),
        ("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1", "bwrap: No permissions"),
        ('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift; "$@"; echo \'{"exit-code": 0}\' >&7', "outside"),
    ],
    ids=["missing", "refused", "leaky"],
)
def test_unusable_jail_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bwrap: str | None, reason: str
) -> None:
    if bwrap:
        make_program(tmp_path / "bwrap", bwrap)
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox_module._try_jail.cache_clear()
    try:
        sandbox = choose_sandbox("auto")
        with pytest.raises(SandboxError, match="sandbox 'bwrap' cannot be used: "):
            choose_sandbox("bwrap")
    finally:
        sandbox_module._try_jail.cache_clear()
    assert sandbox.mode == "none"
    assert sandbox.notice is not None
    assert reason in sandbox.notice
    assert sandbox.notice.startswith("sandbox: none (")


def test_sandbox_makes_jails() -> None:
    folder = Path("/somewhere")
    assert Sandbox(mode="bwrap").jail(writable=(folder,), network=True) == Jail(writable=(folder,), network=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="others cannot read it anyway")
def test_root_reads_no_password_of_the_system(enter: Enter) -> None:
    assert Path("/etc/shadow").read_text(encoding="utf-8")
    assert enter("cat /etc/shadow; ls -A /etc/ssl/private").stdout.text() == ""
