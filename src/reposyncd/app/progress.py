"""The progress of a task, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reposyncd.app import messages
    from reposyncd.model import Progress


def progress_message(progress: Progress, pending: list[messages.PendingRepo]) -> messages.TaskProgress:
    """The progress of a sync or a verification, and which repositories have changes that are not indexed yet."""
    return {
        "pending": pending,
        "phase": progress.phase,
        "files_done": progress.files_done,
        "files_total": progress.files_total,
        "chunks_done": progress.chunks_done,
        "trouble": progress.trouble,
        "cutting": progress.cutting,
    }
