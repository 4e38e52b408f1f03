"""What reposyncd can do, in this process or through the service."""
