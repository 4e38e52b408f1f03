"""What is on disk: ignore rules, scan, safe read."""

VERSION = "tree=1"
"""Raise it with every change of this package that may take a file into the index or out of it, or change its text."""
