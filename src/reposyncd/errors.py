"""One tree of errors. The exit code of the command line is the class's, and is mapped nowhere else; so is the code by
which the API names it, of which each class has its own."""

from __future__ import annotations


class ReposyncError(Exception):
    """Base of every error that is meant to be read by a person: what, where, and what to do."""

    exit_code = 1
    code = "failed"

    def __str__(self) -> str:
        """What it says, which everybody takes: a path in it that is not UTF-8 is written out."""
        return super().__str__().encode("utf-8", "backslashreplace").decode()


class UsageError(ReposyncError):
    """Raised when a request makes no sense: an unknown repository, a name that is taken."""

    exit_code = 2
    code = "usage"


class OverlapError(UsageError):
    """Raised when a tree lies in one that is indexed, or the other way round: files would be indexed twice."""

    code = "overlap"


class RefusedRootError(UsageError):
    """Raised when a directory cannot be a repository: it is our own state, a file system of the kernel's, or /."""

    code = "root_refused"


class NotFoundError(UsageError):
    """Raised when what a request names is not there."""

    code = "not_found"


class NoTicketError(NotFoundError):
    """Raised when the daemon knows no such ticket: it was redeemed, is too old, or another daemon gave it out."""

    code = "no_ticket"


class ConfigError(ReposyncError):
    """Raised when the configuration is wrong; names the key, where it stands and what is allowed."""

    exit_code = 78
    code = "configuration"


class BusyError(ReposyncError):
    """Raised when a lock is held by somebody else past the time-out; names the holder."""

    exit_code = 75
    code = "busy"


class OverloadedError(BusyError):
    """Raised when the daemon has as much to do as it takes on at once; the request was not begun."""

    code = "overloaded"


class RebuildingError(BusyError):
    """Raised when what is searched is being rebuilt with another model, and the one of before is not installed."""

    code = "rebuilding"


class DaemonNotRunningError(ReposyncError):
    """Raised when no daemon that keeps this state directory answers at the socket; nothing was begun."""

    exit_code = 3
    code = "not_running"


class DaemonLostError(ReposyncError):
    """Raised when the daemon ended or fell silent before it answered; what was asked for may have been done."""

    exit_code = 3
    code = "daemon_lost"


class TimedOutError(ReposyncError):
    """Raised when work is not done in the time it was given; it goes on."""

    code = "timed_out"


class RootMissingError(ReposyncError):
    """Raised when a root is absent, unmounted or another directory than before. Nothing is deleted."""

    code = "root_missing"


class WholeTreeNeededError(ReposyncError):
    """Raised when a part of a tree cannot be made true alone: what is on record of the rest is not to be trusted."""

    code = "whole_tree_needed"


class InterruptedSyncError(ReposyncError):
    """Raised when a sync was asked to stop. What was committed stays; the next run goes on from there."""

    exit_code = 130
    code = "interrupted"


class FileProblem(ReposyncError):
    """Base of what can go wrong with one file; it concerns that file alone."""

    code = "file"


class VanishedError(FileProblem):
    """Raised when the file is absent."""

    code = "file_vanished"


class UnreadableError(FileProblem):
    """Raised when the file exists and cannot be read; what is stored of it is kept."""

    code = "file_unreadable"


class UnstableError(FileProblem):
    """Raised when the file changed while it was read; it stays dirty."""

    code = "file_unstable"


class UncutError(FileProblem):
    """Raised when the file could not be cut, and that is not its fault; what is stored of it is kept."""

    code = "file_uncut"


class StoreError(ReposyncError):
    """Base of what the store can raise, translated at the adapter."""

    code = "store"


class TransientStoreError(StoreError):
    """Raised when the same call may succeed later: a lock, a full disk, a process that died."""

    code = "store_transient"


class StoreBusyError(TransientStoreError):
    """Raised when another program holds the Chroma directory, or its database, past the time-out."""

    exit_code = BusyError.exit_code
    code = "store_busy"


class NoSpaceError(TransientStoreError):
    """Raised before a batch that the disk has no room for: nothing of it was begun."""

    code = "no_space"


class EmbedderUnavailableError(TransientStoreError):
    """Raised when the embedder cannot embed anything for now: it says nothing of the store, and of no text."""

    code = "embedder_unavailable"


class EmbedderLostError(EmbedderUnavailableError):
    """Raised when the embedder's process was ended from outside, or could not be started."""

    code = "embedder_lost"


class ChunkerLostError(TransientStoreError):
    """Raised when the chunking processes cannot be started, or were closed: it says nothing of the store."""

    code = "chunker_lost"


class LethalOperationError(TransientStoreError):
    """Raised when one operation has crashed the index process, or let its deadline pass, each time it was tried."""

    code = "store_lethal"


class LethalTextError(LethalOperationError):
    """Raised when some texts have crashed the embedder each time it was given them: it says nothing of the store."""

    code = "text_lethal"


class UnreadableStoreError(TransientStoreError):
    """Raised when the disk does not give back what is in a file of the store."""

    code = "store_unreadable"


class PermanentStoreError(StoreError):
    """Raised when the same call will fail again."""

    code = "store_permanent"


class RefusedTextError(PermanentStoreError):
    """Raised when the embedder takes other texts and will never take one of these: it says nothing of the store."""

    code = "text_refused"


class CorruptStoreError(StoreError):
    """Raised when the vector store contradicts itself and must be rebuilt from the tree."""

    code = "store_corrupt"


class SuspectStoreError(CorruptStoreError):
    """Raised when the vector store fails in a way that damage may be the cause of, and a passing fault too."""

    code = "store_suspect"


class CorruptManifestError(CorruptStoreError):
    """Raised when the manifest is damaged, no database, or of a newer version, and must be made anew."""

    code = "manifest_corrupt"


CONCERN_ONE_OPERATION = (StoreBusyError, LethalOperationError, EmbedderUnavailableError)
"""Transient errors after which the index process goes on with other operations."""


def by_code(code: str) -> type[ReposyncError]:
    """The class that the API names by this code; the base for one that is not known."""
    classes: list[type[ReposyncError]] = [ReposyncError]
    for each in classes:
        if each.code == code:
            return each
        classes += each.__subclasses__()
    return ReposyncError


def safe_message(error: BaseException) -> str:
    """The error without anything that a file may hold: for what goes into a log, a history or an answer. Of one whose
    text may be what was being read, as that of a KeyError or a UnicodeError is, only the kind."""
    import sqlite3  # most who import this module never need it

    kind = type(error).__name__
    names_no_content = (ReposyncError, OSError, sqlite3.Error, AttributeError, TypeError, NameError)
    return f"{kind}: {error}" if isinstance(error, names_no_content) else kind
