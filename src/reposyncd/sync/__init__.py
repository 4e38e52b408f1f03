"""The difference between the tree and the index, and its undoing."""
