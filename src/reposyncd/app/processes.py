"""The child processes of a workspace: the index process, the chunking processes, and embedders for older indexes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from reposyncd.embedding import identity_of, spec_of, spec_with
from reposyncd.errors import ChunkerLostError, EmbedderUnavailableError, TransientStoreError
from reposyncd.search.embedders import Embedders
from reposyncd.store.kinds import NO_STORE

if TYPE_CHECKING:
    from reposyncd.config import Config
    from reposyncd.embedding import EmbedderSpec
    from reposyncd.ports import Chunker, RunningIndex, StoreAddress
    from reposyncd.store.process.supervisor import IndexProcess

_CHUNKING_BYTES = 768 << 20
"""Memory that a chunking process may take for its data, whatever it cuts. Cutting a megabyte of code takes 60 MB,
of brackets 320 MB."""

_CHUNKING_BYTES_PER_BYTE = 200
"""And for each byte of the largest file that is read."""


class Processes:
    """Makes child processes when they are needed, and ends them. Every method is for any thread.

    `address` tells the index process where the store is. An `index` or a `chunker` that is given is used instead of
    processes, and survives `reconfigure`. `on_death` is called from another thread with the name of a process that has
    died, and why; it is started again. `on_wait` is called now and then by a thread that waits for the index outside of
    a sync.
    """

    def __init__(
        self,
        config: Config,
        address: Callable[[], StoreAddress],
        *,
        index: RunningIndex | None,
        chunker: Chunker | None,
        on_death: Callable[[str, str], None],
        on_wait: Callable[[], None],
    ) -> None:
        self._config = config
        self._address = address
        self._on_death = on_death
        self._on_wait = on_wait
        self._lock = threading.Lock()
        """guards what follows: several threads may ask for the same process at once"""
        self._index = index
        self._chunker = chunker
        self._closed = False
        self._owns_index, self._owns_chunker = index is None, chunker is None
        self._embedders = Embedders(self._query_embedder)

    def close(self) -> None:
        """Ends them all. What is asked for afterwards fails."""
        with self._lock:
            self._closed = True
        if self._chunker:
            self._chunker.close()
        self._embedders.close()
        if self._index:
            self._index.close()

    def reconfigure(self, config: Config) -> None:
        """Ends what depends on the configuration; the next use starts it again."""
        index, chunker = None, None
        with self._lock:
            self._config = config
            if self._owns_index:
                index, self._index = self._index, None
            if self._owns_chunker:
                chunker, self._chunker = self._chunker, None
        for each in (index, chunker):
            if each:
                each.close()

    def abandon(self) -> None:
        """Ends them at once, whatever they are doing; their operations fail."""
        index, chunker = self._index, self._chunker  # another thread may replace them meanwhile
        if index:
            index.abandon()
        if chunker:
            chunker.close()

    @property
    def index_stalled_s(self) -> float:
        """See `ports.IndexLifetime.stalled_s`."""
        index = self._index  # another thread may replace it meanwhile
        return index.stalled_s if index else 0.0

    @property
    def chunking_stalled_s(self) -> float:
        """See `ports.Chunker.stalled_s`."""
        chunker = self._chunker  # another thread may replace it meanwhile
        return chunker.stalled_s if chunker else 0.0

    @property
    def index(self) -> RunningIndex:
        """The index, not necessarily started. Raises TransientStoreError after `close`."""
        with self._lock:
            if self._index is None:
                if self._closed:
                    raise TransientStoreError("the index was closed")
                self._index = self._process(self._address(), self.embedder)
            return self._index

    @property
    def chunker(self) -> Chunker:
        """What cuts files, not necessarily started. Raises ChunkerLostError after `close`."""
        with self._lock:
            if self._chunker is None:
                if self._closed:
                    raise ChunkerLostError("the chunking processes were closed")
                from reposyncd.chunking.pool import SLOW_AT_MOST, ChunkingPool

                threads = self._config.limits.threads
                self._chunker = ChunkingPool(
                    self._config.state_dir,
                    memory_bytes=_CHUNKING_BYTES + _CHUNKING_BYTES_PER_BYTE * self._config.index.max_file_size,
                    idle_s=self._config.store.idle,
                    slow_at_most=min(threads or SLOW_AT_MOST, SLOW_AT_MOST),
                    on_death=lambda why: self._on_death("a chunking process", why),
                )
            return self._chunker

    @property
    def embedder(self) -> EmbedderSpec:
        """The embedder that is configured: that of the index process."""
        return spec_of(self._config.embedding)

    def embed_query(self, embedder: str, query: str) -> Sequence[float] | None:
        """The vector of a query by the embedder of this identity; None if `index` has that embedder and embeds the
        query itself. Raises a StoreError."""
        return None if embedder == identity_of(self.embedder) else self._embedders.embed(embedder, query)

    def maintenance(self, address: StoreAddress, log_name: str) -> IndexProcess:
        """A process without an embedder, for the maintenance of a store. The caller closes it."""
        from reposyncd.store.process.supervisor import NO_EMBEDDER

        return self._process(address, NO_EMBEDDER, log_name)

    def _query_embedder(self, identity: str) -> RunningIndex:
        """A process that only embeds, and so never opens a store. Raises EmbedderUnavailableError if no embedder has
        this identity."""
        if (spec := spec_with(identity, self.embedder)) is None:
            raise EmbedderUnavailableError(f"the embedder that made the index is not installed any more: {identity}")
        return self._process(NO_STORE, spec, f"{spec.kind}-embedder.log")

    def _process(
        self, address: StoreAddress, embedder: EmbedderSpec | None, log_name: str = "index-process.log"
    ) -> IndexProcess:
        from reposyncd.store.process.supervisor import IndexProcess, thread_limits

        return IndexProcess(
            self._config.state_dir,
            address,
            embedder,
            deadline_s=self._config.store.deadline,
            idle_s=self._config.store.idle,
            log_name=log_name,
            environment=thread_limits(self._config.limits.threads),
            on_death=lambda why: self._on_death("the index process", why),
            on_wait=lambda waiting: self._on_wait(),
        )
