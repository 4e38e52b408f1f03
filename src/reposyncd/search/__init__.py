"""Turns a query into ranked chunks."""
