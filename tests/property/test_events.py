"""Whatever the names in a buffer of events are, what it comes to can be looked at."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from reposyncd.tree.events import Entry, reduce
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.inotify import IS_DIR

CREATE = 0x100
NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & set(b"/\0"))
EVENTS = st.lists(st.tuples(st.sampled_from([1, 2]), NAMES, st.booleans()), max_size=20)


def buffer_of(events: list[tuple[int, bytes, bool]]) -> bytes:
    return b"".join(
        struct.pack("iIII", wd, CREATE | (IS_DIR if is_directory else 0), 0, 16) + name.ljust(16, b"\0")
        for wd, name, is_directory in events
    )


@given(EVENTS, st.sampled_from([b"", b"caf\xe9\n*.log\n", "größe/\n".encode()]))
def test_every_event_is_hinted_at_in_a_path_that_can_be_put_on_record(
    events: list[tuple[int, bytes, bool]], ignored: bytes
) -> None:
    rules = IgnoreRules.for_patterns([]).enter("", ignored, None)
    entries = {1: Entry("/r", "", None, None), 2: Entry("/r", "in", rules, None)}
    hints = reduce(buffer_of(events), entries, None).hints
    for _, path, _ in hints:
        path.encode()
    for wd, name, is_directory in events:
        place = entries[wd].path
        shown = name.decode(errors="surrogateescape")
        inner = f"{place}/{shown}" if place else shown
        if wd == 1 or not rules.ignores(inner, is_directory):
            assert ("/r", place, False) in hints or ("/r", place, True) in hints
