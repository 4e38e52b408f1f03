"""One tree of errors. The exit code of the command line is the class's, and is mapped nowhere else."""

from __future__ import annotations


class ReposyncError(Exception):
    """Base of every error that is meant to be read by a person: what, where, and what to do."""

    exit_code = 1


class UsageError(ReposyncError):
    """Raised when a request makes no sense: an unknown repository, a name that is taken."""

    exit_code = 2


class ConfigError(ReposyncError):
    """Raised when the configuration is wrong; names the key, where it stands and what is allowed."""

    exit_code = 78


class BusyError(ReposyncError):
    """Raised when a lock is held by somebody else past the time-out; names the holder."""

    exit_code = 75


class RootMissingError(ReposyncError):
    """Raised when a root is absent, unmounted or another directory than before. Nothing is deleted."""


class WholeTreeNeededError(ReposyncError):
    """Raised when a part of a tree cannot be made true alone: what is on record of the rest is not to be trusted."""


class InterruptedSyncError(ReposyncError):
    """Raised when a sync was asked to stop. What was committed stays; the next run goes on from there."""

    exit_code = 130


class FileProblem(ReposyncError):
    """Base of what can go wrong with one file; it concerns that file alone."""


class VanishedError(FileProblem):
    """Raised when the file is absent."""


class UnreadableError(FileProblem):
    """Raised when the file exists and cannot be read; what is stored of it is kept."""


class UnstableError(FileProblem):
    """Raised when the file changed while it was read; it stays dirty."""


class StoreError(ReposyncError):
    """Base of what the store can raise, translated at the adapter."""


class TransientStoreError(StoreError):
    """Raised when the same call may succeed later: a lock, a full disk, a process that died."""


class StoreBusyError(TransientStoreError):
    """Raised when another program holds the Chroma directory, or its database, past the time-out."""

    exit_code = BusyError.exit_code


class NoSpaceError(TransientStoreError):
    """Raised before a batch that the disk has no room for: nothing of it was begun."""


class LethalOperationError(TransientStoreError):
    """Raised when one operation has killed the index process, or let its deadline pass, each time it was tried."""


class PermanentStoreError(StoreError):
    """Raised when the same call will fail again."""


class CorruptStoreError(StoreError):
    """Raised when the vector store contradicts itself and must be rebuilt from the tree."""


class CorruptManifestError(CorruptStoreError):
    """Raised when the manifest is damaged, no database, or of a newer version, and must be made anew."""
