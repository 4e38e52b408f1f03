"""What is stored: the manifest, the Chroma directory and the process that owns it, the locks."""
