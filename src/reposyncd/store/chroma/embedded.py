"""The embedded Chroma directory as a kind of store. It imports modules when they are needed: `status` needs few."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from reposyncd.store.chroma.status import KIND, EmbeddedStatus
from reposyncd.store.kinds import Start, StoreKind, StoreSettings

if TYPE_CHECKING:
    from reposyncd.store.chroma.address import EmbeddedAddress
    from reposyncd.store.chroma.admin import EmbeddedAdmin
    from reposyncd.store.chroma.backend import EmbeddedBackend


def _admin(settings: Callable[[], StoreSettings], start: Start) -> EmbeddedAdmin:
    from reposyncd.store.chroma.admin import EmbeddedAdmin

    return EmbeddedAdmin(settings, start)


def _address(settings: StoreSettings) -> EmbeddedAddress:
    from reposyncd.store.chroma.address import EmbeddedAddress
    from reposyncd.store.chroma.salvage import SALVAGE

    state_dir = settings.state_dir
    return EmbeddedAddress(
        EmbeddedStatus(state_dir).location, settings.lock_timeout_s, os.path.join(state_dir, SALVAGE)
    )


def _backend(arguments: Sequence[str], on_wait: Callable[[str], None]) -> EmbeddedBackend:
    from reposyncd.store.chroma.backend import EmbeddedBackend

    return EmbeddedBackend.from_arguments(arguments, on_wait)


EMBEDDED = StoreKind(
    name=KIND,
    files=("checkpoint.log*", "chroma", "chroma.next", "look.log*", "salvage.db*", "store-*"),
    status=EmbeddedStatus,
    admin=_admin,
    address=_address,
    backend=_backend,
)
