"""The child processes of one open state directory, and their lifetime."""

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
"""How much memory a chunking process may use for its data, whatever it cuts. A megabyte of code takes 60 MB, a megabyte
of brackets 320 MB."""

_CHUNKING_BYTES_PER_BYTE = 200
"""And this much for each byte of the largest file that is read."""


class Processes:
    """The index process, the chunking processes, and one embedder for each old index that is searched. Each of them is
    started when it is first needed. Thread-safe.

    `address` returns where the store is at present. If `index` or `chunker` is given, it is used instead of processes,
    and survives `reconfigure`. `on_death` and `on_wait` are as in `Workspace`.
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
        """held while the index or the chunker is created or removed: searches request it from other threads"""
        self._index = index
        self._chunker = chunker
        self._owns_index, self._owns_chunker = index is None, chunker is None
        self._closed = False
        self._identity: str | None = None
        """of the configured embedder, once it is known: finding it out reads the directory of installed packages"""
        self._embedders = Embedders(self._query_embedder)

    # Lifetime -------------------------------------------------------------------------------------------

    def reconfigure(self, config: Config) -> None:
        """Ends the processes. New ones use the new configuration."""
        index, chunker = None, None
        with self._lock:
            self._config, self._identity = config, None
            if self._owns_index:
                index, self._index = self._index, None
            if self._owns_chunker:
                chunker, self._chunker = self._chunker, None
        for each in (index, chunker):
            if each:
                each.close()

    def close(self) -> None:
        """Ends the processes. No other is started after that."""
        with self._lock:
            self._closed = True
        if self._chunker:
            self._chunker.close()
        self._embedders.close()
        if self._index:
            self._index.close()

    def abandon(self) -> None:
        """Ends the index process and the chunking processes at once, whatever they are doing. Their operations
        fail."""
        index, chunker = self._index, self._chunker  # another thread may replace them in the meantime
        if index:
            index.abandon()
        if chunker:
            chunker.close()

    @property
    def index_stalled_s(self) -> float:
        """See `ports.IndexLifetime.stalled_s`."""
        index = self._index  # another thread may replace it in the meantime
        return index.stalled_s if index else 0.0

    @property
    def chunking_stalled_s(self) -> float:
        """See `ports.Chunker.stalled_s`."""
        chunker = self._chunker  # another thread may replace it in the meantime
        return chunker.stalled_s if chunker else 0.0

    # The processes --------------------------------------------------------------------------------------

    @property
    def chunker(self) -> Chunker:
        """Cuts files. It may not be started yet. Raises TransientStoreError after `close`."""
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
    def index(self) -> RunningIndex:
        """The index, the same one for all threads. It may not be started yet. Raises TransientStoreError after
        `close`."""
        with self._lock:
            if self._index is None:
                if self._closed:
                    raise TransientStoreError("the index was closed")
                self._index = self._index_process(self._address(), self._embedder)
            return self._index

    def maintenance(self, address: StoreAddress, log_name: str) -> IndexProcess:
        """A new process on a store, which never embeds. The caller closes it."""
        from reposyncd.store.process.supervisor import NO_EMBEDDER

        return self._index_process(address, NO_EMBEDDER, log_name)

    def _index_process(
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

    # Embedders ------------------------------------------------------------------------------------------

    @property
    def embedder_identity(self) -> str:
        """The identity of the configured embedder, which `index` has."""
        with self._lock:
            if self._identity is None:
                self._identity = identity_of(self._embedder)
            return self._identity

    def has_embedder(self, identity: str) -> bool:
        """Whether an embedder with this identity is installed."""
        return identity == self.embedder_identity or spec_with(identity, self._embedder) is not None

    def embed_query(self, identity: str, query: str) -> Sequence[float] | None:
        """The vector of a query, computed by the embedder with this identity. None if `index` has that embedder and
        embeds the query itself. Raises StoreError; EmbedderUnavailableError if that embedder is not installed."""
        return None if identity == self.embedder_identity else self._embedders.embed(identity, query)

    @property
    def _embedder(self) -> EmbedderSpec:
        return spec_of(self._config.embedding)

    def _query_embedder(self, identity: str) -> RunningIndex:
        """A process that only embeds, and never opens a store."""
        if (spec := spec_with(identity, self._embedder)) is None:
            raise EmbedderUnavailableError(f"the embedder that made the index is not installed any more: {identity}")
        return self._index_process(NO_STORE, spec, f"{spec.kind}-embedder.log")
