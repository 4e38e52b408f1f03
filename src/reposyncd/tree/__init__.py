"""The indexed tree on the disk: ignore rules, scan, watches, safe read."""

VERSION = 2
"""The version of the rules that decide, from path and content, whether a file has a text, and which. Raise it whenever
they change: then each file on record is read once more, and is stored or deleted if the result is another one."""
