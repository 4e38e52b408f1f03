"""What is on disk: ignore rules, scan, safe read."""

VERSION = 2
"""Of the rules by which a file's path and content say whether it has text, and which. Raise it with every change of
them: each file on record is then read once more, and stored or deleted where something else comes of it than before."""
