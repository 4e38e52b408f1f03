"""Scans the trees of repositories according to a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
"""(repo, scope, the scan) to the result of the scan. The hook must run the scan, and may pass an observer to it."""


@dataclass(frozen=True, slots=True)
class Scanner:
    """Scans trees, and says which of their files may be indexed."""

    config: Config
    environ: Mapping[str, str]
    """where the paths of git's configuration come from"""
    now_ns: Callable[[], int]
    """the wall clock"""
    hook: ScanHook
    """runs every scan"""

    @property
    def allowed(self) -> IgnoreRules:
        """Covers the files that are indexed even if they look like secrets."""
        return IgnoreRules.for_patterns(self.config.index.allow_secrets)

    def check_root(self, repo: Repo) -> OffLimits:
        """What no scan of the repository enters. Raises RefusedRootError if the repository must not be indexed. Such a
        repository was recorded by an earlier version, which accepted any directory."""
        off_limits = OffLimits.of(self.config.state_dir)
        if why := refusal(repo, off_limits):
            raise RefusedRootError(why)
        return off_limits

    def scan(self, repo: Repo, known: Mapping[str, DirectoryRow | None], scope: Scope) -> Snapshot:
        """Lists the scope of a repository's tree, and compares each directory with its row in `known`. Raises
        RefusedRootError and RootMissingError."""
        off_limits = self.check_root(repo)
        limit, allowed, worktrees = self.config.index.max_file_size, self.allowed, self.config.index.worktrees
        salt = repr((limit, tree.VERSION, allowed.digest, worktrees))
        rules = IgnoreRules.for_root(repo.root, self.config.index.exclude, self.environ, salt=salt)

        def scan_with(observer: ScanObserver | None) -> Snapshot:
            return scan(
                repo.root,
                rules,
                {path: row for path, row in known.items() if row is not None},
                now_ns=self.now_ns(),
                max_file_size=limit,
                allowed=allowed,
                worktrees=worktrees,
                off_limits=off_limits,
                scope=scope,
                observer=observer,
            )

        return self.hook(repo, scope, scan_with)
