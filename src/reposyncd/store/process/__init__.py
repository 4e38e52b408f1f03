"""The index process, from both of its sides."""
