"""The hostile table: what proposals may leave behind in the workspace, and what becomes of each.

All of them come from one backend in one search, one after the other. Between an honest first candidate and an honest
last one none may gain, none may change anything outside its folder, leave anything running or lying about, and none may
help or hinder what comes after it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import pytest
from fresh_trees import check_store, find_leftovers
from hostile import Project, make_project

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what programs can do differs")

SCOPE = ["*.txt", ".git*", ".GIT", "measure", "play", "-rf", "naïve", "nai\u0308ve"]
TARGET = {
    "goal": "Write words.",
    "editable": SCOPE,
    "checks": {"words": {"score": "python -I measure/words.py list", "timeout": 20}},
}
BASELINE = {"words.txt": "word\n" * 10, "play/ball.txt": "round\n", "play/deep/er.txt": "er\n"}
ONLY = f"only {', '.join(SCOPE)} may be changed"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What becomes of a candidate; it has an objective if it was measured."""

    outcome: str
    reason: str
    objective: float | None = None


SAME = Expected(outcome="discard", reason="0.200 is not better than 0.200 (c0001)", objective=0.2)
WORTHLESS = Expected(outcome="discard", reason="0.000 is not better than 0.200 (c0001)", objective=0.0)
NOTHING = Expected(outcome="no-change", reason="the backend changed no file")


def invalid(reason: str) -> Expected:
    return Expected(outcome="invalid", reason=reason)


def violation(reason: str) -> Expected:
    return Expected(outcome="scope-violation", reason=reason)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row: what is planted, and what becomes of it; without the jail the same unless *unjailed* says otherwise."""

    name: str
    plant: str
    expected: Expected
    unjailed: Expected | None = None
    needs_root: bool = False


HONEST = Case(
    name="honest: a better file",
    plant="write('words.txt', 'word ' * 20)",
    expected=Expected(outcome="keep", reason="0.100 -> 0.200", objective=0.2),
)
LAST = Case(
    name="honest: a much better file",
    plant="write('words.txt', 'word ' * 90)",
    expected=Expected(outcome="keep", reason="0.200 -> 0.900", objective=0.9),
)

GIT = [
    Case(
        name="attributes with filters and conversions",
        plant=r"""
write('.gitattributes', '* filter=evil text eol=crlf ident\n*.txt working-tree-encoding=UTF-16LE export-subst\n')
write('play/.gitattributes', '* filter=evil merge=evil diff=evil\n')
write('play/ends.txt', 'unix\ndos\r\nmac\r$Id$ $Format:%H$')
""",
        expected=SAME,
    ),
    Case(
        name="a repository in it, with hooks",
        plant="""
for folder in ('.git', 'play/.git'):
    write(f'{folder}/HEAD', 'ref: refs/heads/main')
    write(f'{folder}/config', f'[core]\\nfsmonitor = "touch {TRACE}"\\nhooksPath = hooks\\nworktree = {BESIDE}\\n')
    write(f'{folder}/hooks/post-checkout', f'#!/bin/sh\\ntouch {TRACE}\\n')
    for inner in ('objects', 'refs'):
        os.mkdir(f'{folder}/{inner}')
""",
        expected=NOTHING,
    ),
    Case(
        name="a file .git that points to the store",
        plant="""
write('.git', f'gitdir: {SESSIONS}/tested/store.git')
os.symlink(SESSIONS / 'tested' / 'store.git', 'play/.git')
""",
        expected=NOTHING,
    ),
    Case(
        name="a submodule",
        plant=r"""
write('.gitmodules', '[submodule "sub"]\n\tpath = play/sub\n\turl = --upload-pack=touch trace\n\tupdate = !touch x\n')
write('play/sub/.git', 'gitdir: ../../.git/modules/sub')
write('play/sub/code.txt', 'its files are files like any other')
""",
        expected=SAME,
    ),
    Case(
        name="files hidden by .gitignore",
        plant=r"write('.gitignore', '*\n'); write('cache/plan.txt')",
        expected=violation(f"added cache/plan.txt; {ONLY}"),
    ),
    Case(
        name="names that git treats like .git on other systems",
        plant=r"""
for name in ('.GIT/config', 'play/.Git/hooks/post-checkout', 'play/git~1/x', 'play/.g\u200cit/x', 'play/.git. /x'):
    write(name)
""",
        expected=SAME,
    ),
]
LINKS = [
    Case(
        name="a link to /etc",
        plant="os.symlink('/etc', 'play/etc')",
        expected=violation("links that lead out of the workspace: play/etc"),
    ),
    Case(
        name="a link to the store",
        plant="os.symlink(SESSIONS / 'tested' / 'store.git', 'play/store')",
        expected=violation("links that lead out of the workspace: play/store"),
    ),
    Case(
        name="a link that leads out by another one",
        plant="os.symlink('deep/../..', 'play/a'); os.symlink('a/../x', 'play/b')",
        expected=violation("links that lead out of the workspace: play/b"),
    ),
    Case(
        name="links in a circle",
        plant="os.remove('words.txt'); os.symlink('play/b', 'words.txt'); os.symlink('../words.txt', 'play/b')",
        expected=violation("links that lead out of the workspace: play/b, words.txt"),
    ),
    Case(
        name="a link where the sealed folder will lie",
        plant="write('play/words.py', 'print(1)'); os.symlink('play', 'measure')",
        expected=SAME,
    ),
    Case(
        name="files where the sealed ones will lie",
        plant="write('measure/words.py/in', 'print(1)'); write('measure/json.py', 'print(1); raise SystemExit')",
        expected=SAME,
    ),
    Case(name="a file where the sealed folder will lie", plant="write('measure', 'print(1)')", expected=SAME),
    Case(
        name="a file with two names",
        plant="os.link('words.txt', 'play/twin.txt')",
        expected=SAME,
    ),
    Case(
        name="a hard link to a file of the host",
        plant="assert refused(os.link, BESIDE / 'canary.txt', 'play/host.txt') == JAILED",
        expected=NOTHING,
        unjailed=SAME,
    ),
    Case(
        name="a hard link to an unreadable file of the host",
        plant="assert refused(os.link, BESIDE / 'in' / 'canary.txt', 'play/unreadable.txt') == JAILED",
        expected=NOTHING,
        unjailed=invalid("play/unreadable.txt cannot be read: Permission denied") if os.getuid() else SAME,
    ),
]
KINDS = [
    Case(name="a pipe", plant="os.mkfifo('play/pipe')", expected=NOTHING),
    Case(name="a pipe where a file was", plant="os.remove('words.txt'); os.mkfifo('words.txt')", expected=WORTHLESS),
    Case(name="a socket", plant="socket.socket(socket.AF_UNIX).bind('play/socket')", expected=NOTHING),
    Case(
        name="a device",
        plant="assert refused(os.mknod, 'play/device', 0o666 | stat.S_IFCHR, os.makedev(1, 5)) or not JAILED",
        expected=NOTHING,
        needs_root=True,
    ),
    Case(
        name="a folder where a file was",
        plant="os.remove('words.txt'); write('words.txt/words.txt')",
        expected=WORTHLESS,
    ),
    Case(
        name="a file where a folder was",
        plant="subprocess.run(['rm', '-r', 'play'], check=True); write('play')",
        expected=SAME,
    ),
    Case(name="empty folders", plant="os.makedirs('play/empty/er')", expected=NOTHING),
    Case(
        name="what tools leave behind",
        plant="""
for name in ('.venv/bin/python', '__pycache__/words.pyc', 'node_modules/x/index.js', 'play/old.pyc', 'venv/x/y'):
    write(name, 'exit 0')
""",
        expected=NOTHING,
    ),
]
SIZES = [
    Case(
        name="a file of 3 GB without content",
        plant="write('play/sparse.bin'); os.truncate('play/sparse.bin', 3 * 10**9)",
        expected=invalid("play/sparse.bin has 3000 MB, more than the 50 allowed (limits.file_mb)"),
    ),
    Case(
        name="100,000 files",
        plant="""
for number in range(4):
    write(f'play/many/{number}')
os.chdir('play/many')
for number in range(4, 100_000):
    os.link(str(number % 4), str(number))  # far cheaper than files of their own, and the same to whoever looks
""",
        expected=invalid("it has more than 20000 files (limits.files)"),
    ),
]
DEEP = """
here = os.open('play', os.O_RDONLY)
for _ in range({levels}):
    os.mkdir({name}, dir_fd=here)
    inner = os.open({name}, os.O_RDONLY, dir_fd=here)
    os.close(here)
    here = inner
os.close(os.open('file', os.O_CREAT, dir_fd=here))
"""
NAMES = [
    Case(
        name="names with newlines, quotes and terminal escapes",
        plant=r"""
for name in ('new\nline', '\x1b[2J\x1b]0;owned\x07', 'tab\t\\"quoted\'', ' ', '*?[a]', ':(top)', '$(touch x)', '--'):
    write(f'play/{name}')
write('-rf')
""",
        expected=SAME,
    ),
    Case(
        name="a name with terminal escapes out of scope",
        plant=r"write('\x1b[2J\x1b]0;owned\x07\u202e')",
        expected=violation(rf"added \x1b[2J\x1b]0;owned\x07\u202e; {ONLY}"),
    ),
    Case(
        name="names that are not UTF-8",
        plant=r"write(b'play/\xff\xfe/\x80.txt'); os.symlink(b'\xff\xfe', b'play/\xc3')",
        expected=SAME,
    ),
    Case(
        name="names that differ in case or composition alone",
        plant=r"""
for name in ('play/Ball.txt', 'play/BALL.TXT', 'Words.txt', 'play/DEEP/er.txt', 'na\u00efve', 'nai\u0308ve'):
    write(name)
""",
        expected=SAME,
    ),
    Case(
        name="2,500 folders one in the other",
        plant=DEEP.format(levels=2500, name="'d'"),
        expected=invalid(f"the path play/{'d/' * 17}d... has 1002 bytes, more than the 1000 allowed"),
    ),
    Case(
        name="20 folders with long names one in the other",
        plant=DEEP.format(levels=20, name="'n' * 255"),
        expected=invalid(f"the path play/{'n' * 35}... has 1028 bytes, more than the 1000 allowed"),
    ),
    Case(
        name="400 folders one in the other",
        plant=DEEP.format(levels=400, name="'d'"),
        expected=SAME,
    ),
    Case(
        name="names of 255 bytes", plant="write('play/' + 'n' * 255); write('play/' + 'm' * 255 + '/x')", expected=SAME
    ),
]
ATTRIBUTES = [
    Case(
        name="unreadable permissions",
        plant="""
os.chmod('play/ball.txt', 0)
os.chmod('play/deep', 0)
os.chmod('play', 0)
""",
        expected=NOTHING,
    ),
    Case(
        name="odd permissions",
        plant="""
write('play/su')
for path, mode in {'play/su': 0o6755, 'play': 0o3777, '.': 0o777, 'words.txt': 0o606}.items():
    os.chmod(path, mode)
""",
        expected=SAME,
    ),
    Case(
        name="extended attributes and default access rights",
        plant=r"""
acl = bytes.fromhex('0200000001000700ffffffff04000700ffffffff20000700ffffffff')
for path in ('.', 'play', 'words.txt'):
    refused(os.setxattr, path, 'user.plan', b'remember')
for path in ('.', 'play'):
    refused(os.setxattr, path, 'system.posix_acl_default', acl)
""",
        expected=NOTHING,
    ),
    Case(
        name="attributes that forbid changes",
        plant="""
os.mkdir('play/new')
done = subprocess.run(['chattr', '+i', 'play/ball.txt', 'play/new', 'play'], capture_output=True)
assert done.returncode or not JAILED
""",
        expected=NOTHING,
        needs_root=True,
    ),
]
ELSEWHERE = [
    Case(
        name="the brief changed",
        plant="""
write('.metaharness/BRIEF.md', 'All is well.')
write('.metaharness/history/c0099/patch')
write('.metaharness/bin/python')
""",
        expected=NOTHING,
    ),
    Case(
        name="a link where the brief was",
        plant="os.rename('.metaharness', 'play/.venv'); os.symlink(SESSIONS, '.metaharness')",
        expected=NOTHING,
    ),
    Case(
        name="writes through ..",
        plant="""
at = Path.cwd()
while at.name and not at.name.startswith('metaharness-'):
    at = at.parent
around = [at, *(path for path in at.rglob('*') if path.is_dir() and not path.is_relative_to(Path.cwd()))]
for folder in (Path('..'), Path('play/../..'), *around):
    for name in ('planted.txt', 'words.txt', 'measure/words.py', 'play/words.txt'):
        refused(write, folder / name, 'word ' * 80)
for file in (BESIDE / 'canary.txt', BESIDE / 'in' / 'new.txt', SESSIONS / 'new.txt', HOME / '.netrc', '/etc/hostile'):
    if JAILED:
        refused(write, file)
""",
        expected=NOTHING,
    ),
    Case(
        name="a link to the host where the workspace was",
        plant="""
here = Path.cwd()
assert refused(os.rename, here, here.with_name('away')) == JAILED
if not JAILED:
    os.symlink(BESIDE, here)
""",
        expected=NOTHING,
        unjailed=invalid(". cannot be read: Not a directory"),
    ),
    Case(
        name="a daemon that goes on writing",
        plant="""
code = "while True: open('play/late.pyc', 'w').write('late')"
subprocess.Popen((sys.executable, '-I', '-c', code, MARK), start_new_session=True, stdout=-3, stderr=-3)
""",
        expected=NOTHING,
    ),
]
TABLE = [HONEST, *GIT, *LINKS, *KINDS, *SIZES, *NAMES, *ATTRIBUTES, *ELSEWHERE, LAST]


@pytest.fixture
def project(pytester: pytest.Pytester, sandbox_mode: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    return make_project(pytester.path, sandbox_mode, monkeypatch)


def test_hostile_candidates(pytester: pytest.Pytester, project: Project) -> None:
    cases = [case for case in TABLE if not case.needs_root or os.getuid() == 0]
    names = [case.name for case in cases]
    expected = [case.expected if project.is_jailed else case.unjailed or case.expected for case in cases]
    plants = [(case.plant, each.objective is not None) for case, each in zip(cases, expected, strict=True)]
    project.write({**TARGET, "budget": len(cases)}, plants, BASELINE)
    session = project.search(pytester)
    became = [
        Expected(outcome=one["outcome"], reason=one["reason"], objective=one["objective"])
        for one in session.run["candidates"][1:]
    ]
    assert dict(zip(names, became, strict=True)) == dict(zip(names, expected, strict=True))
    assert find_leftovers(session, project, "words") == {}
    check_store(session)
    patch = (session.trial / "best.patch").read_text()
    assert [line for line in patch.splitlines() if line.startswith("diff ")] == ["diff --git a/words.txt b/words.txt"]
