"""reposyncd keeps a ChromaDB vector index of code repositories equal to the files on disk.

The Python API is `sync_repository` and what it returns. Importing this package imports nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reposyncd.model import SyncResult

__version__ = "0.1.0"
__all__ = ["__version__", "sync_repository"]


def sync_repository(path: str, name: str | None = None, *, full: bool = False) -> SyncResult:
    """Brings the index of the tree at `path` up to date in this process, and returns when that is done.

    `name` is the name of the repository in the index, by default the name of the directory. `full` reads every file
    instead of trusting sizes and times, and compares every id with the store. The configuration comes from the file
    and the environment, as for a command.

    Raises `errors.ReposyncError`: UsageError if the name is taken, ConfigError, BusyError if another process keeps
    writing for longer than `lock.timeout`, RootMissingError, StoreError. A file that could not be read raises nothing:
    it is in the `errors` of the result. May be called from any thread.
    """
    import os

    from reposyncd import config
    from reposyncd.app import operations
    from reposyncd.app.workspace import Workspace

    with Workspace(config.load(os.environ)) as workspace:
        return operations.sync(workspace, path, name, full=full)
