"""The status as recorded in the manifest, used when the service is not running or has not read it yet."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from reposyncd.app.status import SECOND_NS, Locks, not_running, repo_status, status
from reposyncd.app.stores import store_status
from reposyncd.errors import StoreError
from reposyncd.model import Verdict
from reposyncd.store.locks import STATE_LOCK, holder
from reposyncd.store.manifest.catalog import Catalog, Generation, Incident, Repo
from reposyncd.store.manifest.database import Database
from reposyncd.store.manifest.history import History, Run
from reposyncd.store.state import MANIFEST, make_private
from reposyncd.sync.repos import refusal
from reposyncd.tree.offlimits import OffLimits

if TYPE_CHECKING:
    from reposyncd.app import messages


def recorded_status(state_dir: str, now_ns: int, version: str) -> messages.Status:
    """The recorded status of the store and of every repository, with a service that is not running.

    `now_ns` is the wall clock. If the store is unreadable, the status says so; this is not raised. Takes no lock,
    starts no child process and writes nothing.
    """
    store, manifest = store_status(state_dir), os.path.join(state_dir, MANIFEST)
    if not os.path.exists(manifest):
        return status(
            version=version,
            service=not_running(),
            kind=store.kind,
            location=store.location,
            trouble="",
            locks=None,
            incidents=(),
            repos=(),
        )
    trouble = ""
    incidents: list[Incident] = []
    repos: list[messages.RepoStatus] = []
    writer = holder(os.path.join(state_dir, STATE_LOCK))
    make_private(state_dir)
    off_limits = OffLimits.of(state_dir)
    try:
        with Database(manifest) as db:
            catalog = Catalog(db)
            incidents = catalog.incidents()
            for repo in catalog.repos():  # one by one, so that those before an error are shown
                found = _repo(db, repo, off_limits, incidents, writer is not None, now_ns)
                repos.append(found)
    except StoreError as error:
        trouble = str(error)
    return status(
        version=version,
        service=not_running(),
        kind=store.kind,
        location=store.location,
        trouble=store.trouble() or trouble,
        locks=Locks(writer, store.lock_holder()),
        incidents=existing_incidents(incidents),
        repos=repos,
    )


def existing_incidents(incidents: Iterable[Incident]) -> list[Incident]:
    """The incidents whose damaged files still exist."""
    return [each for each in incidents if os.path.lexists(each.place)]


def _repo(
    db: Database, repo: Repo, off_limits: OffLimits, incidents: list[Incident], has_writer: bool, now_ns: int
) -> messages.RepoStatus:
    runs = History(db).runs(repo)
    last = runs[0] if runs else None
    done = next((run for run in runs if run.outcome == "done"), None)
    serving = Catalog(db).serving(repo)
    running = last if last is not None and last.outcome == "running" and has_writer else None
    later = [each for each in incidents if done is None or each.at_ns > (done.finished_ns or done.started_ns)]
    refused = refusal(repo, off_limits) or ""
    what, reason = ("failed", refused) if refused else _state(repo, last, done, running, later)
    waiting: messages.Waiting | None = None
    if running is not None and running.trouble is not None:
        waiting = {"reason": running.trouble, "for_s": (now_ns - (running.trouble_ns or now_ns)) / SECOND_NS}
    return repo_status(
        name=repo.name,
        root=repo.root,
        collection=serving.collection if serving else None,
        state=what,
        reason=reason,
        files=serving.files if serving else 0,
        chunks=serving.chunks if serving else 0,
        progress=None
        if running is None
        else {"done": running.files_done, "total": running.files_total, "chunks": running.chunks_done},
        waiting=waiting,
        last_sync=None if done is None else done.result,
        synced_at=None if done is None or done.finished_ns is None else done.finished_ns / SECOND_NS,
        verdicts=_verdicts(db, serving),
        errors=(done.result or {}).get("errors", []) if done else [],
    )


def _state(
    repo: Repo, last: Run | None, done: Run | None, running: Run | None, incidents: list[Incident]
) -> tuple[str, str]:
    """(state, reason): the most urgent of those that apply."""
    if repo.paused and running is None:
        return "paused", f"paused; resume with: reposyncd resume {repo.name}"
    if running is not None and running.trouble:
        return "degraded", running.trouble
    if incidents:
        incident = incidents[-1]
        verb = "is being rebuilt" if running else "will be rebuilt by the next sync"
        return "degraded", f"the {incident.what} was damaged, and {verb}: {incident.reason}"
    if running is not None:
        return "syncing", ""
    if not os.path.isdir(repo.root):
        return "missing", f"{repo.root} does not exist; its index is kept"
    if last is None or last.outcome in ("running", "interrupted"):
        return "pending", "the last sync was interrupted; the next one continues from there" if last else ""
    if last.outcome == "failed":
        return "failed", last.error or ""
    return "current", "as of the last sync"


def _verdicts(db: Database, serving: Generation | None) -> list[Verdict]:
    from reposyncd.store.manifest.manifest import Manifest

    return Manifest(db, serving).verdicts() if serving else []
