"""What a candidate's code may do while checks run it: one hostile program after the other, in one search.

Every candidate has a program ``act.py``, which a check runs between two others that measure its files. It is worth
what these are worth, whatever the program did; and its checkout had nothing but its own files at first, whatever the
programs before it left behind.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fresh_trees import find_leftovers
from hostile import Project, make_project
from sessions import Session

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what programs can do differs")

WEIGHT = 0.001
TARGET: dict[str, Any] = {
    "goal": "Write words.",
    "checks": {
        "before": {"score": "python -I measure/words.py list"},
        "act": {"run": "python -I act.py", "timeout": 60, "weight": WEIGHT},
        "after": {"score": "python -I measure/words.py"},
    },
}
BASELINE = {"words.txt": "", "act.py": "", "play/ball.txt": "round\n", "play/deep/er.txt": "er\n"}
TOKEN = "t0ken-of-the-session"
MOST_MEMORY_MB = 200
MOST_LOG_BYTES = 1_000_000

DONE = ""
"""What its check says of a program that ended well: it got what it wanted."""
REFUSED = "exit code 1, expected 0\nrefused"
UNTRIED = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row: a program, and what its check says of it with and without the jail."""

    name: str
    program: str
    jailed: str = DONE
    unjailed: str | None = DONE
    needs_root: bool = False


WAYS_OUT = [
    Case(
        name="mount, umount, unshare, chroot, mknod",
        program="""
commands = ['mount -t tmpfs none play', 'mount -o remount,rw,bind /', f'mount -o remount,rw,bind {BESIDE}']
commands += ['umount /proc', 'unshare -m true', 'nsenter -t 1 -m true', 'chroot / true', 'mknod play/disk b 254 0']
done = [each for each in commands if subprocess.run(each, shell=True, capture_output=True).returncode == 0]
inner = f'mount -o remount,rw,bind /; mount -o remount,rw,bind {BESIDE}; umount -l {BESIDE}; touch {BESIDE}/a /etc/a'
subprocess.run(('unshare', '-Urm', 'sh', '-c', inner), capture_output=True)
if not done and not (BESIDE / 'a').exists():
    raise SystemExit('refused')
""",
        jailed=REFUSED,
        unjailed=UNTRIED,
    ),
    Case(
        name="writing to the host",
        program="""
project = BESIDE.parent / 'project'
for file in (HOME / 'new', SESSIONS / 'new', project / 'sealed' / 'new', '/tmp/hostile', '/run/hostile'):
    refused(write, file)  # in the jail that is memory
files = [BESIDE / 'canary.txt', BESIDE / 'new', project / 'metaharness.yaml', project / 'baseline' / 'words.txt']
files += ['/etc/hostile', '/usr/hostile', sys.executable, '/proc/sys/kernel/core_pattern']
if all(refused(write, file) for file in files):
    raise SystemExit('refused')
""",
        jailed=REFUSED,
        unjailed=UNTRIED,
    ),
    Case(
        name="connecting to sockets of the host",
        program="""
def connect(family, address):
    with socket.socket(family) as client:
        client.connect(address)

port = int((BESIDE / 'port').read_text())
places = [(socket.AF_UNIX, place) for place in (str(HOME / 'socket'), str(BESIDE / 'socket'), f'\\0{MARK}')]
places.append((socket.AF_INET, ('127.0.0.1', port)))
if all(refused(connect, *place) for place in places):
    raise SystemExit('refused')
""",
        jailed=REFUSED,
    ),
    Case(
        name="reading the environment of other processes",
        program="""
found = set()
for file in Path('/proc').glob('[0-9]*/environ'):
    if not refused(file.read_bytes):
        found |= {line for line in file.read_bytes().split(b'\\0') if line.startswith(b'SERVICE_TOKEN=')}
print(found)
raise SystemExit(None if found else 'refused')
""",
        jailed=REFUSED.replace("\n", "\nset()\n"),
    ),
]
BULLIES = [
    Case(
        name="a daemon that edits files during the checks",
        program="""
code = '''
while True:
    for path, content in (("measure/words.py", "print(1)"), ("words.txt", "word " * 99)):
        with open(path, "w") as file:
            file.write(content)
'''
subprocess.Popen((sys.executable, '-I', '-c', code, MARK), start_new_session=True)
while Path('words.txt').stat().st_size != 5 * 99:
    pass
""",
    ),
    Case(
        name="printing 1 GB",
        program="""
for _ in range(900):
    sys.stdout.buffer.write(b'x' * 1_000_000)
    sys.stderr.buffer.write(b'\\xff\\n' * 50_000)
""",
    ),
    Case(
        name="terminal escapes, controls and bytes that are not UTF-8",
        program=r"""
sys.stdout.buffer.write(b'\x1b[2J\x1b]0;owned\x07\r\x08\x00\xff')
raise SystemExit(1)
""",
        jailed="exit code 1, expected 0\n\x1b[2J\x1b]0;owned\x07\r\x08\x00\ufffd",
        unjailed="exit code 1, expected 0\n\x1b[2J\x1b]0;owned\x07\r\x08\x00\ufffd",
    ),
]
LEFTOVERS = [
    Case(
        name="very deep folders, here and in the temporary folder",
        program="""
for top in (Path('play'), Path(os.environ['TMPDIR'])):
    here = os.open(top, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir('folder', dir_fd=here)
        inner = os.open('folder', os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.chmod(here, 0)
""",
    ),
    Case(
        name="folders for files and files for folders",
        program="""
for path in ('words.txt', 'play/ball.txt', 'measure/words.py'):
    os.remove(path)
    write(f'{path}/words.txt/words.txt')
subprocess.run(('rm', '-r', 'play/deep'), check=True)
write('play/deep')
""",
    ),
    Case(
        name="pipes, sockets, links and other names for files",
        program="""
write('play/copy.txt', 'a plan')
os.remove('words.txt')
os.link('play/copy.txt', 'words.txt')
os.link('measure/words.py', 'play/words.py')
write('play/words.py', 'print(1)')
subprocess.run(('rm', '-r', 'play/deep', 'play/ball.txt'), check=True)
os.symlink(BESIDE, 'play/deep')
os.mkfifo('play/ball.txt')
socket.socket(socket.AF_UNIX).bind('play/socket')
""",
    ),
    Case(
        name="odd names, sparse files and what tools leave behind",
        program=r"""
names = [b'new\nline', b'\xff\xfe', b'\x1b[2J', b'n' * 255, b'.git/config']
for name in (*names, b'.venv/bin/python', b'__pycache__/words.pyc'):
    write(b'play/' + name)
    write(name)
write('.gitattributes', '* filter=evil')
os.makedirs('play/empty/er')
write('sparse.bin')
os.truncate('sparse.bin', 3 * 10**9)
""",
    ),
    Case(
        name="permissions, owners, extended attributes and default access rights",
        program="""
acl = bytes.fromhex('0200000001000700ffffffff04000700ffffffff20000700ffffffff')
for path in ('words.txt', 'play/ball.txt', 'play/deep', 'play', 'measure', '.'):
    refused(os.setxattr, path, 'user.plan', b'remember')
    refused(os.setxattr, path, 'system.posix_acl_default', acl)
    refused(os.chown, path, 12345, 12345)
    os.chmod(path, 0)
""",
    ),
    Case(
        name="attributes that forbid changes",
        program="""
write('play/ball.txt', 'square')
os.mkdir('play/new')
done = subprocess.run(('chattr', '+i', 'play/ball.txt', 'play/new', 'play/deep', 'words.txt', '.'), capture_output=True)
raise SystemExit('refused' if done.returncode and JAILED else None)
""",
        jailed=REFUSED,
        needs_root=True,
    ),
    Case(
        name="all deleted",
        program="subprocess.run(('find', '.', '-mindepth', '1', '-delete'), check=True)",
    ),
    Case(
        name="a link to the host where the checkout was",
        program="""
here = Path.cwd()
if refused(os.rename, here, here.with_name('away')):
    raise SystemExit('refused')
os.symlink(BESIDE, here)
""",
        jailed=REFUSED,
    ),
    Case(
        name="files everywhere around",
        program="""
at = Path.cwd()
while at.name and not at.name.startswith('metaharness-'):
    at = at.parent
around = [at, *(path for path in at.rglob('*') if path.is_dir())]
for folder in (Path('..'), Path('play/../..'), *around):
    for name in ('planted.txt', 'words.txt', 'measure/words.py', 'play/planted.txt'):
        refused(write, folder / name, 'word ' * 99)
""",
    ),
]
FORK_BOMB = """
code = '''
import mmap, os, signal, time
shared = mmap.mmap(-1, 8)
def count(step):
    number = int.from_bytes(shared[:8], "little") + step
    shared[:8] = number.to_bytes(8, "little")
    return number
def collect(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            count(-1)  # another one may take its place
    except ChildProcessError:
        return
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, collect)
while True:
    if count(1) > 300:  # enough to show, not enough to harm
        count(-1)
        time.sleep(0.1)
    elif os.fork() == 0:
        os.setsid()
'''
os.execv(sys.executable, (sys.executable, '-I', '-c', code, MARK))
"""
HONEST = Case(name="nothing but the work", program="")
TABLE = [*WAYS_OUT, *BULLIES, *LEFTOVERS, HONEST]


@pytest.fixture
def project(pytester: pytest.Pytester, sandbox_mode: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("SERVICE_TOKEN", TOKEN)
    return make_project(pytester.path, sandbox_mode, monkeypatch)


@pytest.fixture
def _sockets(project: Project) -> Iterator[None]:
    """Servers on the host: in the home folder, where the jail lets programs read, without a path, on the loopback."""
    home, beside = project.root / "home", project.root / "beside"
    with ExitStack() as stack:
        for address in (str(home / "socket"), str(beside / "socket"), f"\0{project.mark}"):
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            Path(address).parent.mkdir(exist_ok=True) if address[0] == "/" else None
            server.bind(address)
            server.listen()
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        (beside / "port").write_text(str(tcp.getsockname()[1]))
        yield


@pytest.mark.usefixtures("_sockets")
def test_hostile_checks(pytester: pytest.Pytester, project: Project) -> None:
    cases = [case for case in TABLE if os.getuid() == 0 or not case.needs_root]
    cases = [case for case in cases if project.is_jailed or case.unjailed is not UNTRIED]
    said = {case.name: case.jailed if project.is_jailed else case.unjailed for case in cases}
    project.write({**TARGET, "budget": len(cases)}, write_plants(project, [case.program for case in cases]), BASELINE)
    session = project.search(pytester, "-v")
    candidates = session.run["candidates"][1:]
    assert {case.name: one["checks"][1]["feedback"] for case, one in zip(cases, candidates, strict=True)} == said
    for number, one in enumerate(candidates, 1):
        is_done = not one["checks"][1]["feedback"]
        assert [check["value"] for check in one["checks"]] == [number / 100, is_done, number / 100]
        assert one["objective"] == pytest.approx((2 * number / 100 + WEIGHT * is_done) / (2 + WEIGHT))
        assert one["outcome"] == "keep"
    assert find_leftovers(session, project, "before") == {}
    check_output(session, project)


def test_a_fork_bomb_ends_with_its_time(pytester: pytest.Pytester, project: Project) -> None:
    checks = {**TARGET["checks"], "act": {"run": "python -I act.py", "timeout": 3}}
    project.write({**TARGET, "checks": checks, "budget": 2}, write_plants(project, [FORK_BOMB, ""]), BASELINE)
    session = project.search(pytester)
    assert session.values(1) == {"before": 0.01, "act": 0, "after": 0.01}
    assert session.feedback(1)["act"] == "timed out after 3 s"
    assert session.values(2) == {"before": 0.02, "act": 1, "after": 0.02}
    assert find_leftovers(session, project, "before") == {}


def write_plants(project: Project, programs: list[str]) -> list[tuple[str, bool]]:
    """Give what makes each of *programs* the act of a candidate that has one word more than the one before."""
    return [
        (f"write('words.txt', 'word ' * {number})\nwrite('act.py', {project.write_program(program)!r})", True)
        for number, program in enumerate(programs, 1)
    ]


def check_output(session: Session, project: Project) -> None:
    """Fail if what programs printed took much memory or disk, or told a secret."""
    assert project.read_memory_mb() < MOST_MEMORY_MB
    files = [path for path in session.folder.rglob("*") if path.is_file()]
    assert all(path.stat().st_size < MOST_LOG_BYTES for path in files if path.suffix == ".log")
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []
    told = [path for path in files if b"SERVICE_TOKEN=***" in path.read_bytes() and path.name == "check-act.log"]
    assert len(told) == (0 if project.is_jailed else 1)
