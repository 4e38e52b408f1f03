"""The service's API: HTTP over a Unix socket."""
