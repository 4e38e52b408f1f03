"""A query to ranked chunks."""
