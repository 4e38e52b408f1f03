"""The engine: the one thread that writes. It decides what to do next, and does it."""
