"""One trial from beginning to end: measure the baseline, search, judge, and keep the record."""

from __future__ import annotations

import contextlib
import functools
import time
from pathlib import Path

import msgspec

from .asking import Asking
from .checks.evaluation import Laboratory, as_results, evaluate, find_required_misses, weigh
from .checks.kinds import Measured, is_share
from .checks.reuse import Evaluations
from .errors import MetaharnessError, explain_system_error
from .folders import temporary_folder
from .gate import judge_trial
from .model import (
    Candidate,
    Check,
    CheckRecord,
    GitBaseline,
    Outcome,
    Proposal,
    Run,
    RunStatus,
    Setting,
)
from .plan import Hooks, Place, Plan, name_trial
from .processes.sandbox import Sandbox
from .redaction import Redactor
from .runfolder import PATCH_FILE, RunFolder, summarize
from .scope import find_missing, find_scope_violation, find_secret
from .search import judge, search
from .store.gitbaseline import describe_baseline, normalize_folder, take_revision
from .store.snapshot import (
    Scan,
    Snapshot,
    WorkspaceError,
    check_bounds,
    diff_snapshots,
    match_transient,
    scan_folder,
    set_bounds,
    show_path,
)
from .store.store import Store
from .worktrees import WORKSPACE, WorkTrees


def run_trial(plan: Plan, place: Place, *, sandbox: Sandbox, redactor: Redactor, hooks: Hooks) -> Run:
    """Execute *plan* and give its finished record, which then lies in the session's folder too.

    Whatever ends the trial early is recorded before it is raised again: Ctrl-C and timeouts as ``interrupted``,
    failures that are no proposal's as ``failed``.

    :raises MetaharnessError: the target, its backend or this machine cannot be used.
    :raises OSError: the session's folder cannot be written.
    """
    name = name_trial(plan)
    run = Run(
        nodeid=plan.nodeid,
        target=plan.target.name,
        backend=plan.label,
        provider=plan.backend.provider if plan.backend else None,
        model=plan.backend.model if plan.backend else None,
        trial=plan.trial,
        budget=plan.budget,
        status="running",
        settings=plan.settings,
        directory=f"{place.shown_as}/{name}",
    )
    start = time.monotonic()
    folder = RunFolder(place.session / name, run)
    trial = _Trial(plan=plan, place=place, run=run, folder=folder, sandbox=sandbox, redactor=redactor, hooks=hooks)

    def close(status: RunStatus, reason: str = "") -> Run:
        ended = msgspec.structs.replace(trial.run, status=status, reason=reason, duration_s=time.monotonic() - start)
        ended = summarize(ended, trial.candidates, changed_files=trial.changed_files)
        ended = msgspec.structs.replace(ended, gate=judge_trial(ended, plan.gate))
        folder.finish(ended)
        return ended

    try:
        with Store(place.session / "store.git") as store, temporary_folder("trial") as work:
            trial.execute(store, WorkTrees(work, store), name)
    except BaseException as error:
        said = explain_system_error(error, place.session.parent) if isinstance(error, OSError) else str(error)
        text = redactor.text(said or type(error).__name__)
        with contextlib.suppress(OSError):  # what ended the trial matters more; its journal tells how far it got
            if isinstance(error, Exception):
                close("failed", text)
            else:
                close("interrupted", f"interrupted: {text}".partition("\n")[0])
        raise
    return close("completed")


class _Taken(msgspec.Struct, frozen=True):
    """The files of a proposal: their scan and what changed; *outcome* is ``None`` when they can be measured."""

    scan: Scan
    outcome: Outcome | None
    reason: str = ""
    changed: tuple[str, ...] = ()


class _Trial:
    """The state of one trial while it runs."""

    def __init__(
        self,
        *,
        plan: Plan,
        place: Place,
        run: Run,
        folder: RunFolder,
        sandbox: Sandbox,
        redactor: Redactor,
        hooks: Hooks,
    ) -> None:
        self.plan, self.place, self.run, self.folder = plan, place, run, folder
        self.target = plan.target
        self.sandbox, self.redactor, self.hooks = sandbox, redactor, hooks
        self.is_transient = match_transient(self.target.transient)
        self.candidates: list[Candidate] = []
        self.changed_files: tuple[str, ...] = ()
        sealed = self.target.sealed_folder
        git = next((folder / ".git" for folder in self.target.file.parents if (folder / ".git").exists()), None)
        self.unseen = tuple(path for path in (sealed, git) if path)  # a repository has what is sealed in its history

    def execute(self, store: Store, trees: WorkTrees, name: str) -> None:
        """Measure the baseline, then search."""
        self.store, self.trees, self.name = store, trees, name
        sealed = self.target.sealed_folder
        self.sealed: Snapshot = {}
        if sealed:
            taken = self._take_in("sealed", sealed, "the sealed folder")
            self.sealed = taken.snapshot
            self._warn_of_left_out("sealed folder", taken)
        folder = self.target.baseline_folder
        self.baseline = self._take_in("c0000", folder, "the baseline") if folder else self._take_in_revision("c0000")
        self.best = self.latest = self.baseline
        self.bounds = set_bounds(self.target.limits, self.baseline.snapshot)
        try:
            check_bounds(self.baseline.snapshot, self.bounds)
        except WorkspaceError as error:
            message = f"the baseline of {self.target.name}: {error}"
            raise WorkspaceError(message) from error
        self._warn_of_left_out("baseline", self.baseline)
        start = time.monotonic()
        reason = find_missing(self.target, self.baseline) or ""
        checks = () if reason else self._measure("c0000", self.baseline.snapshot)
        objective, reason = (None, reason) if reason else self._weigh(checks)
        baseline = Candidate(
            id="c0000",
            parent=None,
            outcome="baseline",
            reason=reason,
            objective=objective,
            duration_s=time.monotonic() - start,
            checks=checks,
        )
        self._add(baseline)
        if self.plan.backend is None:
            return
        asking = Asking(
            plan=self.plan,
            backend=self.plan.backend,
            place=self.place,
            folder=self.folder,
            trees=self.trees,
            sandbox=self.sandbox,
            redactor=self.redactor,
            hooks=self.hooks,
            sealed=self.sealed,
            hidden=(*self.place.hidden, *self.unseen),
        )
        attempt = functools.partial(self._attempt, asking)
        for candidate in search(baseline, budget=self.plan.budget, attempt=attempt):
            if candidate.outcome == "keep":
                self._keep(candidate)
            self._add(candidate)

    def _take_in(self, name: str, folder: Path, what: str) -> Scan:
        """Store a folder of the target's as it is."""
        folder = folder.resolve()  # the target's author may link to it
        scan = scan_folder(folder, is_transient=self.is_transient)
        if found := find_secret(scan, scan.snapshot, folder, self.redactor):
            message = f"{what} of {self.target.name} cannot be stored: {found}; remove it there"
            raise MetaharnessError(message)
        self.store.commit(f"{self.name}/{name}", scan.snapshot, source=folder, message=f"{what} of {self.target.name}")
        return scan

    def _warn_of_left_out(self, what: str, scan: Scan) -> None:
        if left_out := scan.left_out:
            self.hooks.warn(
                f"{self.target.name}: left out of the {what}, being transient or no regular file: "
                f"{', '.join(map(show_path, left_out[:5]))}{' and more' if len(left_out) > 5 else ''}"
            )

    def _take_in_revision(self, name: str) -> Scan:
        """Store the files that git tracks around the target."""
        baseline = self.target.baseline
        assert isinstance(baseline, GitBaseline)
        taken = take_revision(
            self.target,
            baseline,
            store=self.store,
            ref=f"{self.name}/{name}",
            is_transient=self.is_transient,
            redactor=self.redactor,
            session_store=self.place.session.parent,
        )
        setting = Setting(value=taken.commit, origin=describe_baseline(baseline))
        self.run = msgspec.structs.replace(self.run, settings={**self.run.settings, "baseline": setting})
        self.folder.log("baseline", commit=taken.commit)
        self.is_transient = taken.is_transient
        self.unseen += (taken.git_folder,)  # it has the sealed files too
        for warning in taken.warnings:
            self.hooks.warn(f"{self.target.name}: {warning}")
        return taken.scan

    # ---------------------------------------------------------------------------------------------- one candidate

    def _attempt(self, asking: Asking, candidate: str, parent: Candidate) -> Candidate:
        start = time.monotonic()
        files = self.best.snapshot
        with self.trees.lend(candidate) as folder:
            proposal = asking.ask(candidate, parent, below=folder, files=files, candidates=self.candidates)
            taken = self._take_files(candidate, parent, folder / WORKSPACE, proposal)
        outcome, reason = taken.outcome, taken.reason
        checks: tuple[CheckRecord, ...] = ()
        objective: float | None = None
        if proposal.status != "completed":
            outcome, reason = proposal.status, proposal.reason or proposal.status
        elif outcome is None:
            self.latest = taken.scan
            checks = self._measure(candidate, taken.scan.snapshot)
            objective, reason = self._weigh(checks)
            outcome, reason = ("invalid", reason) if objective is None else judge(objective, parent)
        return Candidate(
            id=candidate,
            parent=parent.id,
            outcome=outcome,
            reason=reason,
            objective=objective,
            duration_s=time.monotonic() - start,
            changed_files=tuple(sorted(self.redactor.text(show_path(path)) for path in taken.changed)),
            checks=checks,
            cost_usd=proposal.cost_usd,
            tokens=proposal.tokens,
            tool_calls=proposal.tool_calls,
        )

    def _take_files(self, candidate: str, parent: Candidate, workspace: Path, proposal: Proposal) -> _Taken:
        """Read what the workspace holds now, and store it unless it carries a secret."""
        before = self.best
        try:
            after = scan_folder(
                workspace, is_transient=self.is_transient, bounds=self.bounds, recall=self.trees.workspace.recall
            )
        except WorkspaceError as error:
            return _Taken(before, "invalid", self.redactor.text(str(error)))
        changed = diff_snapshots(before.snapshot, after.snapshot)
        if not changed:
            return _Taken(after, "no-change", proposal.reason or "the backend changed no file")
        if secret := find_secret(after, changed, workspace, self.redactor):
            return _Taken(after, "invalid", f"{secret}; not stored", changed)
        self.store.commit(
            f"{self.name}/{candidate}",
            after.snapshot,
            source=workspace,
            message=f"{self.target.name} {candidate}\n\n{proposal.summary}".strip(),
            parent=(f"{self.name}/{parent.id}", before.snapshot),
        )
        with (self.folder.open_candidate(candidate) / "patch").open("wb") as file:
            old = (f"{self.name}/{parent.id}", before.snapshot)
            self.store.write_patch(old, (f"{self.name}/{candidate}", after.snapshot), file)
        if violation := find_scope_violation(self.target, before, after, changed):
            return _Taken(after, "scope-violation", violation, changed)
        if missing := find_missing(self.target, after):
            return _Taken(after, "invalid", missing, changed)
        return _Taken(after, None, changed=changed)

    def _measure(self, candidate: str, snapshot: Snapshot) -> tuple[CheckRecord, ...]:
        laboratory = Laboratory(
            target=self.target,
            sealed=self.sealed,
            checkout=self.trees.checkout,
            private=self.trees.private,
            store=self.store,
            sandbox=self.sandbox,
            hidden=(*self.place.hidden, *self.unseen),
            readable=self.place.readable,
            redactor=self.redactor,
            ask_hook=self.hooks.check,
            evaluations=Evaluations(self.place.session / "evaluations"),
        )

        def log_start(check: Check) -> None:
            number = [one.id for one in self.target.checks].index(check.id) + 1
            count = len(self.target.checks)
            self.folder.log("check-started", candidate=candidate, check=check.id, number=number, checks=count)

        def log_end(check: Check, measured: Measured) -> None:
            self.folder.log("check-ended", candidate=candidate, check=check.id, value=measured.result.value)
            if measured.output:
                file = self.folder.open_candidate(candidate) / f"check-{check.id}.log"
                file.write_text(measured.output, encoding="utf-8", errors="replace")

        return evaluate(snapshot, laboratory, on_start=log_start, on_end=log_end)

    def _weigh(self, checks: tuple[CheckRecord, ...]) -> tuple[float | None, str]:
        """Give the objective, or ``None`` with the reason."""
        if misses := find_required_misses(self.target.checks, checks):
            return None, f"required checks miss: {', '.join(misses)}"
        answer = self.hooks.objective(self.target, as_results(checks))
        if answer is None:
            return weigh(checks), ""
        if not is_share(answer):
            message = f"pytest_metaharness_objective must give a number from 0 to 1, got {answer!r}"
            raise MetaharnessError(message)
        return float(answer), ""

    # -------------------------------------------------------------------------------------------------- the record

    def _keep(self, candidate: Candidate) -> None:
        self.best = self.latest
        changed = diff_snapshots(self.baseline.snapshot, self.best.snapshot)
        self.changed_files = tuple(sorted(self.redactor.text(show_path(path)) for path in changed))
        self.store.name(f"{self.name}/best", f"{self.name}/{candidate.id}")
        temporary = self.folder.path / f".{PATCH_FILE}"
        baseline = self.target.baseline
        below = normalize_folder(baseline.path) if isinstance(baseline, GitBaseline) else "."
        with temporary.open("wb") as file:
            old = (f"{self.name}/c0000", self.baseline.snapshot)
            self.store.write_patch(old, (f"{self.name}/best", self.best.snapshot), file, folder=below)
        temporary.replace(self.folder.path / PATCH_FILE)
        self.folder.add_best(candidate.id, self.changed_files)

    def _add(self, candidate: Candidate) -> None:
        self.candidates.append(candidate)
        self.folder.add(candidate)
        self.hooks.candidate(self.run, candidate)
