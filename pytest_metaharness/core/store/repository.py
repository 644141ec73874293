"""The user's own repository, read with git as a program. Nothing is written there, fetched, or run by a hook.

The user's configuration counts, since it says which repositories of others are trusted (git-config(1),
safe.directory), but none of it changes what is read: contents come as they were committed, without any filter.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import MetaharnessError
from ..processes.process import start_tool
from .git import BlobReader, find_git
from .snapshot import CHUNK, show_path

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Collection, Generator, Iterator, Sequence

OPTIONS = (
    "--literal-pathspecs", "--no-optional-locks",
    "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", "-c", "core.bigFileThreshold=1m",
)  # fmt: skip

PASSED = (
    "PATH", "HOME", "XDG_CONFIG_HOME", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    "SUDO_UID",  # whose repositories root may read under sudo: safe.directory
)  # fmt: skip
"""What git is told of our environment, beside GIT_CONFIG*. Not GIT_DIR and such, which a git hook sets."""

QUIET = {
    "LC_ALL": "C",
    "GIT_NO_REPLACE_OBJECTS": "1",  # an id names its content
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",  # forbids what a partial clone fetches by itself to those gits that lack the former
    "GIT_TERMINAL_PROMPT": "0",
}

SUBMODULE, LINK = "160000", "120000"


class RepositoryError(MetaharnessError):
    """The user's repository cannot be read, or does not have what was asked for."""


class Item(NamedTuple):
    """A line of git-ls-tree(1); *path* is with surrogate escapes (PEP 383)."""

    mode: str
    kind: str
    id: str
    path: str


class Repository:
    """The repository whose work tree encloses *folder*; *root* is its top, *git_folder* has its objects.

    :raises RepositoryError: there is none that can be read.
    :raises StoreError: git is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._git = find_git()
        self.folder = Path(os.path.realpath(folder))
        self.root = self.folder
        asked = ("--is-inside-work-tree", "--is-shallow-repository", "--show-object-format", "--show-cdup")
        inside, shallow, hashing, up = self._run("rev-parse", *asked).split(b"\n")[:4]
        if inside != b"true":
            message = f"{folder} is in a bare repository or a .git folder: put the target into a clone with a work tree"
            raise RepositoryError(message)
        if hashing == b"sha256":
            message = f"the repository around {folder} names its objects by SHA-256: only SHA-1 is supported"
            raise RepositoryError(message)
        self._is_shallow = shallow == b"true"
        self.root = Path(os.path.realpath(self.folder / os.fsdecode(up)))
        common = os.fsdecode(self._run("rev-parse", "--git-common-dir").removesuffix(b"\n"))
        self.git_folder = Path(os.path.realpath(self.root / common))
        self._reader = BlobReader(
            lambda: self._start("cat-file", "--batch"), where=str(self.root), error=RepositoryError
        )

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the reading process."""
        self._reader.close()

    def resolve(self, revision: str) -> str:
        """Give the id of the commit that *revision* names (gitrevisions(7)).

        :raises RepositoryError: it names none.
        """
        name = f"{revision}^{{commit}}"
        found, answer, _ = self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", name)
        if found == 0:
            return answer.decode("ascii").strip()
        more = "; is it spelled right, and fetched?"
        if self._is_shallow:
            more = ": the clone is shallow, get the rest with `git fetch --unshallow` (in a CI checkout: fetch-depth 0)"
        elif self._ask("rev-parse", "--verify", "--quiet", "HEAD")[0] != 0:
            more = ": nothing is committed yet"
        message = f"the repository {self.root} has no commit {revision!r}{more}"
        raise RepositoryError(message)

    def list_files(self, commit: str, folder: str = ".") -> list[Item]:
        """List all files, links and submodules below *folder*; their paths are relative to it.

        :raises RepositoryError: *commit* has no such folder, or not all of it is here.
        """
        tree = commit
        if folder != ".":
            items = self._list_tree(commit, "--", folder)
            if not items or items[0].kind != "tree":
                kinds = {"100": "a file", LINK[:3]: "a link", SUBMODULE[:3]: "a submodule"}
                found = f"as {kinds[items[0].mode[:3]]}" if items else "not at all"
                message = f"commit {commit[:12]} of {self.root} has the folder {show_path(folder)!r} {found}"
                raise RepositoryError(message)
            tree = items[0].id
        return self._list_tree("-r", tree)

    def list_folder(self, commit: str, folder: str) -> list[Item]:
        """List what is directly in *folder*; nothing when there is no such folder."""
        return self._list_tree(commit, *(("--", f"{folder}/") if folder != "." else ()))

    def list_named(self, commit: str, paths: Sequence[str]) -> list[Item]:
        """List those of *paths* that are there, links not followed."""
        return self._list_tree(commit, "--", *paths) if paths else []

    def measure(self, blobs: Collection[str]) -> dict[str, int]:
        """Give the size in bytes of each of *blobs*.

        :raises RepositoryError: one is not here.
        """
        asked = "".join(f"{blob}\n" for blob in blobs).encode("ascii")
        code, answer, errors = self._ask("cat-file", "--batch-check", stdin=asked)
        sizes = {blob: int(rest[0]) for blob, _, *rest in map(str.split, answer.decode("ascii").splitlines()) if rest}
        if code or len(sizes) < len(blobs):
            missing = next(blob for blob in blobs if blob not in sizes)
            why = f" ({_first_line(errors)})" if errors else ""
            message = (
                f"the repository {self.root} lacks object {missing}{why}: a partial clone fetches files when they are "
                "first needed, so check that revision out once, or clone in full; else it is damaged (`git fsck`)"
            )
            raise RepositoryError(message)
        return sizes

    def stream(self, blobs: Sequence[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Give each of *blobs* with its content in chunks; what is not read of one is passed over.

        :raises RepositoryError: one is missing or damaged.
        """
        return self._reader.stream(blobs)

    def pack(self, blobs: Sequence[str]) -> Generator[bytes, None, None]:
        """Give *blobs* as one pack (gitformat-pack(5)), in chunks: compressed as they are here, where they are packed.

        :raises RepositoryError: one is missing or damaged.
        """
        process = self._start("-c", "pack.compression=1", "pack-objects", "--stdout", "--window=0", "-q")
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # git says why below
                process.stdin.write("".join(f"{blob}\n" for blob in blobs).encode("ascii"))
                process.stdin.close()  # all is read before the first byte is written
            while chunk := process.stdout.read(CHUNK):
                yield chunk
            process.stdin = None
            _, errors = process.communicate()
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode:
            raise RepositoryError(self._explain(errors.decode("utf-8", "replace")))

    # ------------------------------------------------------------------------------------------------ the program

    def _list_tree(self, *arguments: str) -> list[Item]:
        items = []
        for line in self._run("ls-tree", "-z", *arguments).split(b"\0")[:-1]:
            head, _, path = line.partition(b"\t")
            mode, kind, name = head.decode("ascii").split()
            items.append(Item(mode, kind, name, os.fsdecode(path)))
        return items

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in PASSED if name in os.environ}
        environment |= {name: value for name, value in os.environ.items() if name.startswith("GIT_CONFIG")}
        return start_tool((self._git, *OPTIONS, *arguments), cwd=self.root, env=environment | QUIET)

    def _ask(self, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
        with self._start(*arguments) as process:
            output, errors = process.communicate(stdin)
        return process.returncode, output, errors.decode("utf-8", "replace")

    def _run(self, *arguments: str) -> bytes:
        code, output, errors = self._ask(*arguments)
        if code:
            raise RepositoryError(self._explain(errors or f"exit code {code}"))
        return output

    def _explain(self, errors: str) -> str:
        if "dubious ownership" in errors or "unsafe repository" in errors:
            advice = [line.strip() for line in errors.splitlines() if "safe.directory" in line]
            trust = f", run: {advice[-1]}" if advice else ""
            return (
                f"the repository around {self.root} belongs to another user, so git does not read it; "
                f"if you trust it{trust or ', add it to safe.directory of your git configuration'}"
            )
        if "not a git repository" in errors:
            return (
                f"no git repository encloses {self.root} (git: {_first_line(errors)}); "
                "commit the files to one, or let `baseline` name a folder"
            )
        return f"git cannot read the repository around {self.root}: {_first_line(errors)}"


def find_faulty_path(items: Sequence[Item]) -> str | None:
    """Name a path that git would never check out, or that is a file and a folder at once; such trees are forged."""
    files = {item.path for item in items}
    folders: set[str] = set()
    for path in files:
        if not {"", ".", ".."}.isdisjoint(path.split("/")):
            return path
        folder = posixpath.dirname(path)
        while folder and folder not in folders:
            folders.add(folder)
            folder = posixpath.dirname(folder)
    return next(iter(files & folders), None)


def _first_line(errors: str) -> str:
    return (errors.strip().splitlines() or [""])[0]
