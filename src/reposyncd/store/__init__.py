"""What is stored: the manifest, the kinds of vector stores, the process that has a store open, the locks."""
