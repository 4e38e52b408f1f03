"""The service's API: HTTP over a Unix socket, and over TCP if that is configured."""
