"""What is stored: the manifest, the kinds of vector stores, the process that opens a store, and the locks."""
