"""RE2 over bytes: regular expressions that take linear time, whatever the pattern and the text.

re2 is imported when it is first needed: a sync with nothing to do does not need it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re2

_MEMORY_BYTES = 64 << 20
"""How much memory re2 may use for the states of one pattern or set of patterns. Ordinary source code takes 4 MiB. When
this is used up, re2 drops the states. In the end, it searches without them, a hundred times slower."""


def byte_options() -> re2.Options:
    """Options for patterns over bytes. Patterns are compiled as Latin-1, so that each character is one byte."""
    import re2

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = _MEMORY_BYTES
    return options


@cache
def compiled(pattern: bytes) -> re2.Pattern[bytes]:
    """The compiled pattern. It stays in memory."""
    import re2

    return re2.compile(pattern, options=byte_options())
