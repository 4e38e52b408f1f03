"""The manifest: what is stored, recorded in SQLite."""
