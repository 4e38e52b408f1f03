"""The manifest: what is stored, in SQLite."""
