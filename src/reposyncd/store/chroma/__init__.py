"""The embedded Chroma store: a directory in the state directory."""
