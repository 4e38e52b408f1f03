"""All errors, as one tree of classes.

Each class has the exit code of the command line, and a code of its own for the API. They are mapped nowhere else.
"""

from __future__ import annotations


class ReposyncError(Exception):
    """Base of all errors whose message is written for users: what is wrong, where, and what to do."""

    exit_code = 1
    code = "failed"

    def __str__(self) -> str:
        """The message, as valid text: bytes of a path that is not UTF-8 are escaped."""
        return super().__str__().encode("utf-8", "backslashreplace").decode()


class UsageError(ReposyncError):
    """Raised when a request is wrong: an unknown repository, a name that is taken."""

    exit_code = 2
    code = "usage"


class OverlapError(UsageError):
    """Raised when a tree is inside an indexed one, or contains one: files would be indexed twice."""

    code = "overlap"


class RefusedRootError(UsageError):
    """Raised when a directory cannot be a repository: our own state, one of the kernel's own file systems, or /."""

    code = "root_refused"


class NotFoundError(UsageError):
    """Raised when something that a request names does not exist."""

    code = "not_found"


class NoTicketError(NotFoundError):
    """Raised when the service knows no such ticket: it was used, has expired, or comes from another service."""

    code = "no_ticket"


class ConfigError(ReposyncError):
    """Raised when the configuration is wrong; names the key, where it is set, and what is allowed."""

    exit_code = 78
    code = "configuration"


class BusyError(ReposyncError):
    """Raised when another process holds a lock past the time-out; names the holder."""

    exit_code = 75
    code = "busy"


class OverloadedError(BusyError):
    """Raised when the service has too many requests at once; this one was not begun."""

    code = "overloaded"


class RebuildingError(BusyError):
    """Raised when the index is being rebuilt with another embedding model, and the previous model is not installed."""

    code = "rebuilding"


class DaemonNotRunningError(ReposyncError):
    """Raised when no service that uses this state directory answers at the socket; nothing was begun."""

    exit_code = 3
    code = "not_running"


class DaemonLostError(ReposyncError):
    """Raised when the service ended or became silent before it answered; the request may have been done."""

    exit_code = 3
    code = "daemon_lost"


class TimedOutError(ReposyncError):
    """Raised when work takes longer than the time it was given; the work goes on."""

    code = "timed_out"


class RootMissingError(ReposyncError):
    """Raised when a root is absent, unmounted, or another directory than before. Nothing is deleted."""

    code = "root_missing"


class WholeTreeNeededError(ReposyncError):
    """Raised when a part of a tree cannot be synced alone, because what is on record of the rest is not trusted."""

    code = "whole_tree_needed"


class InterruptedSyncError(ReposyncError):
    """Raised when a sync was asked to stop. What was committed stays; the next sync goes on from there."""

    exit_code = 130
    code = "interrupted"


class FileProblem(ReposyncError):
    """Base of the errors that concern one file only."""

    code = "file"


class VanishedError(FileProblem):
    """Raised when the file does not exist."""

    code = "file_vanished"


class UnreadableError(FileProblem):
    """Raised when the file exists but cannot be read; what is stored of it stays."""

    code = "file_unreadable"


class UnstableError(FileProblem):
    """Raised when the file changed while it was read; it stays dirty."""

    code = "file_unstable"


class UncutError(FileProblem):
    """Raised when the file could not be cut, but is not to blame; what is stored of it stays."""

    code = "file_uncut"


class StoreError(ReposyncError):
    """Base of the errors of the store. Its adapter translates all errors to these."""

    code = "store"


class TransientStoreError(StoreError):
    """Raised when the same call may succeed later: a lock, a full disk, a process that died."""

    code = "store_transient"


class StoreBusyError(TransientStoreError):
    """Raised when another program locks the store past the time-out."""

    exit_code = BusyError.exit_code
    code = "store_busy"


class NoSpaceError(TransientStoreError):
    """Raised before a batch if the disk has no room for it; nothing of it was begun."""

    code = "no_space"


class EmbedderUnavailableError(TransientStoreError):
    """Raised when the embedder cannot embed anything for now: it says nothing of the store, and of no text."""

    code = "embedder_unavailable"


class EmbedderLostError(EmbedderUnavailableError):
    """Raised when the embedder's process was ended from outside, or could not be started."""

    code = "embedder_lost"


class ChunkerLostError(TransientStoreError):
    """Raised when the chunking processes cannot be started, or were closed. The store is not to blame."""

    code = "chunker_lost"


class LethalOperationError(TransientStoreError):
    """Raised when one operation crashed the index process, or exceeded its deadline, each time it was tried."""

    code = "store_lethal"


class LethalTextError(LethalOperationError):
    """Raised when the embedder crashed on the same texts each time. The store is not to blame."""

    code = "text_lethal"


class UnreadableStoreError(TransientStoreError):
    """Raised when the disk cannot read a file of the store."""

    code = "store_unreadable"


class PermanentStoreError(StoreError):
    """Raised when the same call would fail again."""

    code = "store_permanent"


class RefusedTextError(PermanentStoreError):
    """Raised when the embedder takes other texts and will never take one of these: it says nothing of the store."""

    code = "text_refused"


class CorruptStoreError(StoreError):
    """Raised when the vector store contradicts itself, and must be rebuilt from the tree."""

    code = "store_corrupt"


class SuspectStoreError(CorruptStoreError):
    """Raised when the vector store fails, and the cause may be damage as well as a fault that passes."""

    code = "store_suspect"


class CorruptManifestError(CorruptStoreError):
    """Raised when the manifest is damaged, is not a database, or has a newer version, and must be rebuilt."""

    code = "manifest_corrupt"


CONCERN_ONE_OPERATION = (StoreBusyError, LethalOperationError, EmbedderUnavailableError)
"""Transient errors after which the index process goes on with other operations."""


def by_code(code: str) -> type[ReposyncError]:
    """The class with this code of the API; the base class if the code is unknown."""
    classes: list[type[ReposyncError]] = [ReposyncError]
    for each in classes:
        if each.code == code:
            return each
        classes += each.__subclasses__()
    return ReposyncError


def safe_message(error: BaseException) -> str:
    """A description of the error that contains nothing of any file: for the log, the history, and answers.

    The message of some errors, such as KeyError and UnicodeError, may quote what was being read. For these, it is only
    the name of the class.
    """
    import sqlite3  # most programs that import this module never need it

    kind = type(error).__name__
    names_no_content = (ReposyncError, OSError, sqlite3.Error, AttributeError, TypeError, NameError)
    return f"{kind}: {error}" if isinstance(error, names_no_content) else kind
