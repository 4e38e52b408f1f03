"""The service: keeps every repository current while it runs."""
