"""What `status` shows of the embedded Chroma store."""

from __future__ import annotations

import os

from reposyncd.store import space
from reposyncd.store.chroma.directory import StoreDirectory
from reposyncd.store.chroma.locks import CHROMA_LOCK
from reposyncd.store.locks import holder

KIND = "embedded"


class EmbeddedStatus:
    """A `ports.StoreStatus`."""

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._directory = StoreDirectory(state_dir)

    @property
    def kind(self) -> str:
        """See `ports.StoreStatus`, as for the methods that follow."""
        return KIND

    @property
    def location(self) -> str:
        return self._directory.link

    def lock_holder(self) -> int | None:
        current = self._directory.current()
        return None if current is None else holder(os.path.join(current, CHROMA_LOCK))

    def trouble(self) -> str:
        return space.trouble(self._state_dir)
