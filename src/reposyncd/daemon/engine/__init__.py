"""The one thread that writes: what is to be done next, and doing it."""
