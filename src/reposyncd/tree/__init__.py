"""The indexed tree on the disk: ignore rules, scan, watches, and safe reading."""

VERSION = 2
"""The version of the rules that decide, from path and content, whether a file has a text, and which text. Raise it when
they change. Then each file on record is read once more, and is stored or deleted if the result has changed."""
