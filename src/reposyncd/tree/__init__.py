"""What is on disk: ignore rules, scan, safe read."""
