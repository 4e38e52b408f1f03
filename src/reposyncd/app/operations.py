"""What is done on an open workspace, by a command and by the service alike.

Each function needs the one thread that the workspace belongs to, except `candidates` and `target` in a workspace that
nobody else uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from reposyncd.errors import BusyError, StoreError
from reposyncd.model import WHOLE, Progress, SyncResult
from reposyncd.search.select import Candidate, Selection, Target, select
from reposyncd.store.locks import holder
from reposyncd.sync.repos import add as add_repo
from reposyncd.sync.repos import find, named, refusal, root_of
from reposyncd.sync.unchanged import result_if_unchanged
from reposyncd.tree.offlimits import OffLimits

if TYPE_CHECKING:
    from reposyncd.app.workspace import Workspace
    from reposyncd.search.service import Found
    from reposyncd.store.manifest.catalog import Generation, Repo
    from reposyncd.store.manifest.history import Run
    from reposyncd.sync.verify import Steps, Verification

OnProgress = Callable[[Progress], None]
ShouldStop = Callable[[], bool]


def _ignore(progress: Progress) -> None:
    pass


def _never() -> bool:
    return False


def sync(
    workspace: Workspace,
    path: str,
    name: str | None = None,
    *,
    full: bool = False,
    on_progress: OnProgress = _ignore,
    should_stop: ShouldStop = _never,
) -> SyncResult:
    """Makes the index of the tree at `path` current; see `reposyncd.sync_repository`.

    `on_progress` and `should_stop` are called in this thread, often, and must be quick.
    """
    state, config = workspace.state, workspace.config
    root = root_of(path, config.state_dir)
    with suppress(BusyError, StoreError):
        if workspace.catalog.removed():  # a process could not delete the collection, or died before it did
            with workspace.state_lock(0):
                while drop_removed(workspace):
                    pass
    with suppress(StoreError):  # the sync below deals with it
        repo = find(workspace.catalog, root, name)
        if repo and not full:
            result = result_if_unchanged(
                state, repo, workspace.fingerprint, lambda known: workspace.scanner.scan(repo, known, WHOLE)
            )
            if result:
                return result
    with suppress(StoreError):  # only to save time; the sync below waits for them
        workspace.index.start()
        workspace.processes.chunker.start()
    return workspace.runner(
        lambda: find(workspace.catalog, root, name) or add_repo(workspace.catalog, root, name),
        lock=workspace.state_lock,
        patience_s=config.store.patience,
        on_progress=on_progress,
        should_stop=should_stop,
    ).sync(full=full)


def add(workspace: Workspace, path: str, name: str | None = None) -> Repo:
    """Records the tree at `path` as a repository; one that is recorded already stays as it is."""
    root = root_of(path, workspace.config.state_dir)
    with workspace.state_lock():
        return find(workspace.catalog, root, name) or add_repo(workspace.catalog, root, name)


def remove(workspace: Workspace, repo: str) -> tuple[Repo, str]:
    """Stops indexing a repository (its name or root) and deletes its index. Returns the repository, and why its
    collection could not be deleted, "" if it was: the next sync, removal or service deletes what is left.

    Raises BusyError, NotFoundError and StoreError; nothing is removed then.
    """
    with workspace.state_lock():
        workspace.state.check()
        [removed] = named(workspace.catalog, repo)
        workspace.catalog.remove(removed, decline=True)
        try:
            while drop_removed(workspace):
                pass
        except StoreError as error:
            return removed, str(error)
    return removed, ""


def drop_removed(workspace: Workspace) -> bool:
    """Deletes one collection of a removed repository, and forgets the repository with its last one. Returns whether
    there may be more. The caller holds the state lock. Raises a StoreError."""
    catalog = workspace.catalog
    removed = catalog.removed()
    if not removed:
        return False
    repo = removed[0]
    generations = catalog.generations(repo)
    is_known = workspace.is_store_known  # what another program has written since is for the next sync to find
    if generations:
        workspace.index.drop(generations[0].collection)
    if len(generations) > 1:
        catalog.forget(generations[0])
    else:
        catalog.forget_repo(repo)
    if is_known:
        workspace.stamp()
    return True


def verify(
    workspace: Workspace,
    repo: str | None = None,
    *,
    repair: bool = False,
    on_progress: OnProgress = _ignore,
    should_stop: ShouldStop = _never,
) -> list[Verification]:
    """Compares records, manifest and files of a repository (its name or root; None: of all); `repair` corrects what is
    wrong. A store or a manifest too damaged to be compared is CorruptStoreError, and with `repair` built anew."""
    from reposyncd.sync.verify import ended

    found: list[Verification] = []
    for each in named(workspace.catalog, repo):
        with workspace.state_lock():
            steps = verification(workspace, each, repair=repair, on_progress=on_progress, should_stop=should_stop)
            verified = ended(steps)
        if repair and verified.counts:
            sync(workspace, each.root, full=True, on_progress=on_progress, should_stop=should_stop)
            verified.repaired = True
        found.append(verified)
    return found


def verification(
    workspace: Workspace, repo: Repo, *, repair: bool, on_progress: OnProgress, should_stop: ShouldStop
) -> Steps:
    """The same for one repository, step by step, without the sync that repairs; see `sync.verification`. The caller
    holds the state lock."""
    from reposyncd.sync.verification import RepoVerification

    return (
        yield from RepoVerification(
            state=workspace.state,
            index=workspace.index,
            check_root=workspace.scanner.check_root,
            scan=lambda repo: workspace.scanner.scan(repo, {}, WHOLE),
            embeds=workspace.embeds,
            max_file_size=workspace.config.index.max_file_size,
            now_ns=workspace.now_ns,
            on_progress=on_progress,
            should_stop=should_stop,
        ).steps(repo, repair=repair)
    )


def history(workspace: Workspace, repo: str | None, limit: int) -> list[tuple[Repo, Run]]:
    """The last runs of a repository (None: of all), newest first."""
    found = [(each, run) for each in named(workspace.catalog, repo) for run in workspace.runs(each, limit)]
    return sorted(found, key=lambda pair: -pair[1].started_ns)[:limit]


def search(workspace: Workspace, query: str, repo: str | None, limit: int) -> Found:
    """The chunks nearest to the query, best first, of one repository or of all. A repository that is being rebuilt
    with another model is searched in its old index.

    Raises UsageError for a blank query or if nothing is indexed, RebuildingError if nothing can be searched until a
    rebuild is done, and StoreError.
    """
    from reposyncd.search.service import SearchService

    repos = named(workspace.catalog, repo)

    def selected() -> Selection:
        return select(candidates(workspace, repos), is_updated=holder(workspace.lock_path) is not None)

    def selected_again() -> Selection:
        workspace.index.release()
        return selected()

    def on_damage(error: StoreError) -> str:
        with suppress(BusyError, StoreError), workspace.state_lock(0):
            workspace.catalog.forget_stamp()  # so that the next sync examines the store
        return f"the index is damaged ({error}); repair it with: reposyncd sync {repos[0].root}"

    service = SearchService(lambda: workspace.index, workspace.processes.embed_query, on_damage)
    return service.search(query, limit, selected, selected_again)


def candidates(workspace: Workspace, repos: Sequence[Repo]) -> list[Candidate]:
    """What a search has to know of these repositories, as it is on record. Raises a StoreError."""
    off_limits = OffLimits.of(workspace.config.state_dir)
    found = []
    for repo in repos:
        serving = workspace.catalog.serving(repo)
        is_outdated = serving is not None and serving.fingerprint != workspace.fingerprint
        found.append(
            Candidate(
                repo.name,
                repo.root,
                target=target(workspace, repo, serving) if serving else None,
                is_outdated=is_outdated,
                refusal=refusal(repo, off_limits),
                rebuilt=_rebuilt(workspace, repo) if is_outdated else None,
            )
        )
    return found


def target(workspace: Workspace, repo: Repo, serving: Generation) -> Target | None:
    """What a search of the repository asks; None if it cannot be searched (see `Candidate.target`)."""
    embedder = workspace.query_embedder(serving)
    if embedder is None or refusal(repo, OffLimits.of(workspace.config.state_dir)):
        return None
    return Target(serving.collection, embedder)


def _rebuilt(workspace: Workspace, repo: Repo) -> tuple[int, int] | None:
    """How far the sync of the repository is, if one is under way: (files done, files in all)."""
    run = next((run for run in workspace.runs(repo, 1) if run.outcome == "running"), None)
    return (run.files_done, run.files_total) if run else None
