"""The engine: the only thread that writes. It decides what to do next, and does it."""
