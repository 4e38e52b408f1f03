"""The index process: the parent's side and the child's side."""
