"""All errors, as one tree of classes.

Each class has its exit code for the command line, and its code for the API. Nothing else maps errors to these.
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
    """Raised when a request is wrong: for example, the repository is unknown, or the name is taken."""

    exit_code = 2
    code = "usage"


class OverlapError(UsageError):
    """Raised when a tree is inside an indexed tree, or contains one: its files would be indexed twice."""

    code = "overlap"


class RefusedRootError(UsageError):
    """Raised when a directory cannot be a repository: our own state, one of the kernel's own file systems, or /."""

    code = "root_refused"


class NotFoundError(UsageError):
    """Raised when something that a request names does not exist."""

    code = "not_found"


class NoTicketError(NotFoundError):
    """Raised when the service does not know a ticket: it was redeemed, has expired, or comes from another service."""

    code = "no_ticket"


class ConfigError(ReposyncError):
    """Raised when the configuration is wrong. Names the key, where it is set, and what is allowed."""

    exit_code = 78
    code = "configuration"


class BusyError(ReposyncError):
    """Raised when another process still holds a lock after the time-out. Names the holder."""

    exit_code = 75
    code = "busy"


class OverloadedError(BusyError):
    """Raised when the service has too many requests at once. It has not begun this one."""

    code = "overloaded"


class RebuildingError(BusyError):
    """Raised when the index is being rebuilt with another embedding model, and the previous model is not installed."""

    code = "rebuilding"


class DaemonNotRunningError(ReposyncError):
    """Raised when no service that uses this state directory answers at the socket. Nothing was begun."""

    exit_code = 3
    code = "not_running"


class DaemonLostError(ReposyncError):
    """Raised when the service ended or fell silent before it answered. The work may have been done."""

    exit_code = 3
    code = "daemon_lost"


class TimedOutError(ReposyncError):
    """Raised when work takes longer than its caller wants to wait. The work continues."""

    code = "timed_out"


class RootMissingError(ReposyncError):
    """Raised when a root is absent, unmounted, or not the same directory as before. Nothing is deleted."""

    code = "root_missing"


class WholeTreeNeededError(ReposyncError):
    """Raised when a part of a tree cannot be synced alone, because what is on record about the rest is not trusted."""

    code = "whole_tree_needed"


class InterruptedSyncError(ReposyncError):
    """Raised when a sync was asked to stop. What was committed stays, and the next sync continues from there."""

    exit_code = 130
    code = "interrupted"


class FileProblem(ReposyncError):
    """Base of the errors that concern only one file."""

    code = "file"


class VanishedError(FileProblem):
    """Raised when the file does not exist."""

    code = "file_vanished"


class UnreadableError(FileProblem):
    """Raised when the file exists but cannot be read. What is stored of it stays."""

    code = "file_unreadable"


class UnstableError(FileProblem):
    """Raised when the file changed while it was read. It stays dirty."""

    code = "file_unstable"


class UncutError(FileProblem):
    """Raised when the file could not be cut, but is not to blame. What is stored of it stays."""

    code = "file_uncut"


class StoreError(ReposyncError):
    """Base of the errors of the store. Its adapter translates all errors to these."""

    code = "store"


class TransientStoreError(StoreError):
    """Raised when the same call may succeed later: because of a lock, a full disk, or a process that died."""

    code = "store_transient"


class StoreBusyError(TransientStoreError):
    """Raised when another program still locks the store after the time-out."""

    exit_code = BusyError.exit_code
    code = "store_busy"


class NoSpaceError(TransientStoreError):
    """Raised before a batch if the disk has no space for it. Nothing of the batch was begun."""

    code = "no_space"


class EmbedderUnavailableError(TransientStoreError):
    """Raised when the embedder cannot embed anything at present. Neither the store nor any text is to blame."""

    code = "embedder_unavailable"


class EmbedderLostError(EmbedderUnavailableError):
    """Raised when the embedder's process was ended from outside, or could not be started."""

    code = "embedder_lost"


class ChunkerLostError(TransientStoreError):
    """Raised when the chunking processes cannot be started, or were closed. The store is not to blame."""

    code = "chunker_lost"


class LethalOperationError(TransientStoreError):
    """Raised when an operation crashed the index process, or exceeded its deadline, each time it was tried."""

    code = "store_lethal"


class LethalTextError(LethalOperationError):
    """Raised when the embedder crashed each time on the same texts. The store is not to blame."""

    code = "text_lethal"


class UnreadableStoreError(TransientStoreError):
    """Raised when the disk cannot read a file of the store."""

    code = "store_unreadable"


class PermanentStoreError(StoreError):
    """Raised when the same call would fail again."""

    code = "store_permanent"


class RefusedTextError(PermanentStoreError):
    """Raised when the embedder will never accept one of these texts, but accepts others. The store is not to blame."""

    code = "text_refused"


class CorruptStoreError(StoreError):
    """Raised when the vector store contradicts itself, and must be rebuilt from the tree."""

    code = "store_corrupt"


class SuspectStoreError(CorruptStoreError):
    """Raised when the vector store fails, and the cause may be damage or a fault that passes."""

    code = "store_suspect"


class CorruptManifestError(CorruptStoreError):
    """Raised when the manifest is damaged, is not a database, or is of a newer version, and must be rebuilt."""

    code = "manifest_corrupt"


CONCERN_ONE_OPERATION = (StoreBusyError, LethalOperationError, EmbedderUnavailableError)
"""Transient errors after which the index process continues with other operations."""


def by_code(code: str) -> type[ReposyncError]:
    """The class that has this API code; the base class if the code is unknown."""
    classes: list[type[ReposyncError]] = [ReposyncError]
    for each in classes:
        if each.code == code:
            return each
        classes += each.__subclasses__()
    return ReposyncError


def safe_message(error: BaseException) -> str:
    """A description of the error without any file content: for the log, the history, and answers.

    The message of some errors, such as KeyError and UnicodeError, may quote what was being read. Of these, only the
    name of the class is returned.
    """
    import sqlite3  # most programs that import this module never need it

    kind = type(error).__name__
    names_no_content = (ReposyncError, OSError, sqlite3.Error, AttributeError, TypeError, NameError)
    return f"{kind}: {error}" if isinstance(error, names_no_content) else kind
