"""Finds the difference between the tree and the index, and removes it."""
