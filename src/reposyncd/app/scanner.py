"""Lists the trees of repositories as the configuration says."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reposyncd import tree
from reposyncd.config import Config
from reposyncd.errors import RefusedRootError
from reposyncd.model import DirectoryRow, Scope
from reposyncd.store.manifest.catalog import Repo
from reposyncd.sync.repos import refusal
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.offlimits import OffLimits
from reposyncd.tree.scan import ScanObserver, Snapshot, scan

ScanHook = Callable[[Repo, Scope, Callable[[ScanObserver | None], Snapshot]], Snapshot]
"""(repository, scope, the scan) to the result of the scan. It has to call the scan once, and may observe it."""


class Scanner:
    """Scans with the ignore rules, limits and secrets of one configuration. `now_ns` is the wall clock, nanoseconds;
    `hook` makes every scan."""

    def __init__(self, config: Config, environ: Mapping[str, str], now_ns: Callable[[], int], hook: ScanHook) -> None:
        self._config = config
        self._environ = environ
        self._now_ns = now_ns
        self._hook = hook

    @property
    def allowed(self) -> IgnoreRules:
        """Matches the files that are indexed although they may hold secrets."""
        return IgnoreRules.for_patterns(self._config.index.allow_secrets)

    def check_root(self, repo: Repo) -> OffLimits:
        """What no scan of the repository enters. Raises RefusedRootError if the repository must not be indexed: an
        older version accepted any directory."""
        off_limits = OffLimits.of(self._config.state_dir)
        if why := refusal(repo, off_limits):
            raise RefusedRootError(why)
        return off_limits

    def scan(self, repo: Repo, known: Mapping[str, DirectoryRow | None], scope: Scope) -> Snapshot:
        """Lists the scope of a repository's tree; directories that are as in `known` are not listed again. Raises
        RefusedRootError, RootMissingError."""
        off_limits = self.check_root(repo)
        limit, worktrees, allowed = self._config.index.max_file_size, self._config.index.worktrees, self.allowed
        salt = repr((limit, tree.VERSION, allowed.digest, worktrees))
        rules = IgnoreRules.for_root(repo.root, self._config.index.exclude, self._environ, salt=salt)

        def scan_now(observer: ScanObserver | None) -> Snapshot:
            return scan(
                repo.root,
                rules,
                {path: row for path, row in known.items() if row is not None},
                now_ns=self._now_ns(),
                max_file_size=limit,
                allowed=allowed,
                worktrees=worktrees,
                off_limits=off_limits,
                scope=scope,
                observer=observer,
            )

        return self._hook(repo, scope, scan_now)
