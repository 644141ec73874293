"""A baseline that is what git tracks: the files of the repository around a target, as one commit has them.

What rules the measurement is no part of it, although it may be tracked: target files, sealed folders, canned answers,
the session store. What its own ``.gitignore`` files ignore is transient: a candidate's do not count.
"""

from __future__ import annotations

import itertools
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import MetaharnessError
from ..model import GitBaseline, Target
from ..redaction import Redactor
from ..targets.load import MAX_BYTES, is_target_file
from ..targets.yamltree import Pairs, Scalar, SyntaxProblem, read_tree
from .ignored import match_ignored
from .repository import LINK, SUBMODULE, Item, Repository, RepositoryError, find_faulty_path
from .snapshot import Entry, Mode, Scan, open_regular, show_path
from .store import Store

POINTER_STARTS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
POINTER_BYTES = 1024
"""A git-lfs pointer is shorter (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""

CANNED_ANSWERS = "fake.yaml"
"""Beside a target: what the provider ``fake`` answers, which would give the solution away."""

IGNORES = ".gitignore"
WILD = frozenset("*?[\\")
"""What makes a pattern more than a name."""

SHOWN = 5
"""Paths that a warning lists before it only counts."""


class Revision(NamedTuple):
    """A baseline from git: the id of its commit, and its files.

    *is_transient* tests (path, is folder) for what no candidate has, whatever a backend puts there; *git_folder* has
    the objects of the repository, sealed files among them. *warnings* are sentences for the user.
    """

    commit: str
    scan: Scan
    is_transient: Callable[[str, bool], bool]
    git_folder: Path
    warnings: tuple[str, ...]


def normalize_folder(path: str) -> str:
    """Spell a folder of a repository as git does; ``.`` is its root.

    :raises RepositoryError: it leads out.
    """
    folder = posixpath.normpath(path)
    if folder.startswith(("/", "../")) or folder == "..":
        message = f"baseline.path must be a folder in the repository, relative to its root, got {path!r}"
        raise RepositoryError(message)
    return folder


def take_revision(
    target: Target,
    baseline: GitBaseline,
    *,
    store: Store,
    ref: str,
    is_transient: Callable[[str, bool], bool],
    redactor: Redactor,
    session_store: Path,
) -> Revision:
    """Store the files that *baseline* names as the commit *ref*, and give what they are.

    :raises MetaharnessError: the repository cannot be read, has no such revision or folder, or a file holds a secret.
    """
    try:
        folder = normalize_folder(baseline.path)
        with Repository(target.file.parent) as repository:
            commit = repository.resolve(baseline.git)
            items = repository.list_files(commit, folder)
            if faulty := find_faulty_path(items):
                message = f"commit {commit[:12]} of {repository.root} has a path that no checkout can have: {faulty!r}"
                raise RepositoryError(message)
            own = _find_own(target, repository, commit, folder, session_store)
            submodules = [item.path for item in items if item.mode == SUBMODULE]
            excluded = frozenset({*own, *submodules})
            kept, left_out = _sort_out(items, excluded, is_transient)
            sizes = repository.measure({item.id for item in kept})
            links, pointers = _look_into(kept, sizes, repository, target, redactor)
            is_ignored = _read_ignored(kept, repository, commit, folder)
            store.take_blobs(sizes.keys(), repository.pack)
    except RepositoryError as error:
        message = f"the baseline of {target.name} ({describe_baseline(baseline)}): {error}"
        raise RepositoryError(message) from error
    snapshot = {item.path: Entry(_read_mode(item), item.id, sizes[item.id]) for item in kept}
    scan = Scan(dict(sorted(snapshot.items())), links, tuple(left_out))
    text = f"the baseline of {target.name}\n\n{describe_baseline(baseline)}: {commit} of {repository.root}"
    store.commit(ref, scan.snapshot, source=repository.root, message=text)  # no file is read: all blobs are known
    warnings = []
    if submodules:
        warnings.append(f"submodules are no part of the baseline: {_list(submodules)}")
    if pointers:
        warnings.append(f"git-lfs pointers stand for their files in the baseline: {_list(pointers)}")
    if futile := _find_futile(target, is_ignored):
        warnings.append(f"ignored by a .gitignore file, so no candidate can have it: {_list(futile)}")

    def is_left_out(path: str, is_folder: bool) -> bool:
        return path in excluded or is_transient(path, is_folder) or is_ignored(path, is_folder)

    return Revision(commit, scan, is_left_out, repository.git_folder, tuple(warnings))


def describe_baseline(baseline: GitBaseline) -> str:
    """Spell *baseline* in a few words."""
    folder = posixpath.normpath(baseline.path)
    return f"git {baseline.git}" if folder == "." else f"git {baseline.git}, path {show_path(folder)}"


# ------------------------------------------------------------------------------------------------ what is left out


def _find_own(target: Target, repository: Repository, commit: str, folder: str, session_store: Path) -> set[str]:
    """Name what below *folder* rules the measurement, relative to it."""
    here = repository.folder
    at = here.relative_to(repository.root).as_posix()
    below = repository.root / folder
    if target.sealed and any(below.is_relative_to(place) for place in _spell(here / target.sealed)):
        message = f"its files lie in the sealed folder '{target.sealed}': they must lie apart"
        raise RepositoryError(message)
    listed = [item for item in repository.list_folder(commit, at) if _is_target(item)]
    present = [file for file in here.iterdir() if is_target_file(file.name) and file.is_file()]
    names = [target.file.name, CANNED_ANSWERS, *(posixpath.basename(item.path) for item in listed)]
    sealed = [target.sealed, *_read_committed(listed, repository), *map(_read_present, present)]
    places = [session_store, *present, *(here / name for name in names), *(here / name for name in sealed if name)]
    return {
        spelled.relative_to(below).as_posix()
        for place in places
        for spelled in _spell(place)
        if spelled != below and spelled.is_relative_to(below)
    }


def _spell(place: Path) -> tuple[Path, Path]:
    """Give *place* as it is called and as it is with its links followed."""
    return Path(os.path.normpath(place)), Path(os.path.realpath(place))


def _is_target(item: Item) -> bool:
    return item.kind == "blob" and is_target_file(posixpath.basename(item.path))


def _read_committed(items: Sequence[Item], repository: Repository) -> Iterator[str | None]:
    sizes = repository.measure({item.id for item in items if item.mode != LINK})
    for _, content in repository.stream([blob for blob, size in sizes.items() if size <= MAX_BYTES]):
        yield _read_sealed(b"".join(content))


def _read_present(file: Path) -> str | None:
    try:
        with open_regular(file.resolve()) as stream:
            return _read_sealed(stream.read(MAX_BYTES))
    except OSError:
        return None  # no target file that anybody could run


def _read_sealed(content: bytes) -> str | None:
    """Give the sealed folder of a target file, normalized; its other keys, faults and all, do not matter."""
    try:
        root = read_tree(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, SyntaxProblem):
        return None
    for name, value in root.nodes if isinstance(root, Pairs) else ():
        if isinstance(name, Scalar) and name.value == "sealed" and isinstance(value, Scalar) and value.type == "text":
            folder = posixpath.normpath(value.value)
            return None if folder.startswith("/") or folder.split("/")[0] in {".", ".."} else folder
    return None


def _sort_out(
    items: Iterable[Item], excluded: frozenset[str], is_transient: Callable[[str, bool], bool]
) -> tuple[list[Item], list[str]]:
    """Give the items that are part of the baseline, and the paths that are left out for being transient."""
    kept: list[Item] = []
    left_out: list[str] = []
    gone = {"": False}

    def is_gone(folder: str) -> bool:
        if folder not in gone:
            if is_gone(posixpath.dirname(folder)) or folder in excluded:
                gone[folder] = True
            elif is_transient(folder, True):
                gone[folder] = True
                left_out.append(folder + "/")
            else:
                gone[folder] = False
        return gone[folder]

    for item in items:
        if is_gone(posixpath.dirname(item.path)) or item.path in excluded:
            continue
        if is_transient(item.path, False):
            left_out.append(item.path)
        else:
            kept.append(item)
    return kept, sorted(left_out)


def _read_ignored(
    kept: Iterable[Item], repository: Repository, commit: str, folder: str
) -> Callable[[str, bool], bool]:
    """Give a test of (path, is folder) for what the ``.gitignore`` files in the baseline and around it ignore."""
    parts = [] if folder == "." else folder.split("/")
    around = [posixpath.join(*parts[:depth], IGNORES) for depth in range(len(parts))]
    items = [(item.path, item) for item in repository.list_named(commit, around)]
    items += [(posixpath.join(folder, item.path), item) for item in kept]
    blobs = {
        posixpath.normpath(posixpath.dirname(path)): item.id
        for path, item in items
        if posixpath.basename(path) == IGNORES and item.kind == "blob" and item.mode != LINK  # links: as git does
    }
    repository.measure(set(blobs.values()))  # says what to do where one is missing
    contents = {blob: b"".join(content) for blob, content in repository.stream(sorted(set(blobs.values())))}
    files = {place: contents[blob] for place, blob in blobs.items()}
    return match_ignored(files, (item.path for item in kept), below=folder)


def _find_futile(target: Target, is_ignored: Callable[[str, bool], bool]) -> list[str]:
    """Name what the target counts on by name, and no candidate can have."""
    named = dict.fromkeys((*target.required, *(target.editable or ())))
    plain = (path for path in named if not WILD.intersection(path))
    return [path for path in plain if is_ignored(posixpath.normpath(path), path.endswith("/"))]


# ------------------------------------------------------------------------------------------------ what is taken in


def _look_into(
    items: Sequence[Item], sizes: Mapping[str, int], repository: Repository, target: Target, redactor: Redactor
) -> tuple[dict[str, str], list[str]]:
    """Give the links with their targets, and the git-lfs pointers.

    :raises MetaharnessError: a file holds a secret.
    """
    places: dict[str, list[Item]] = {}
    for item in items:
        places.setdefault(item.id, []).append(item)
    links: dict[str, str] = {}
    pointers: list[str] = []
    for blob, chunks in repository.stream(list(places)):
        content: Iterable[bytes] = chunks
        if sizes[blob] < POINTER_BYTES or any(item.mode == LINK for item in places[blob]):
            whole = b"".join(chunks)
            content = [whole]
            for item in places[blob]:
                if item.mode == LINK and (not whole or b"\0" in whole):
                    message = f"{show_path(item.path)} is a link that no checkout can have"
                    raise RepositoryError(message)
                if item.mode == LINK:
                    links[item.path] = os.fsdecode(whole)
                elif whole.startswith(POINTER_STARTS):
                    pointers.append(item.path)
        for item in places[blob]:
            if name := redactor.find(itertools.chain((os.fsencode(item.path) + b"\n",), content)):
                shown = redactor.text(show_path(item.path))
                found = f"the baseline of {target.name} cannot be stored: {shown} holds the value of {name}"
                message = f"{found}; remove it there and commit, or name another revision"
                raise MetaharnessError(message)
            content = ()
    return links, sorted(pointers)


def _read_mode(item: Item) -> Mode:
    """Give the mode as git would check it out; very old commits have others, such as 100664."""
    if item.mode == LINK:
        return "120000"
    return "100755" if int(item.mode, 8) & 0o100 else "100644"


def _list(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(map(show_path, paths[:SHOWN])) + more
