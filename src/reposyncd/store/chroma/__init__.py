"""The embedded Chroma store: a directory."""
