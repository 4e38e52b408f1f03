"""The service: keeps every repository's index current while it runs."""
