"""Conflicts over the REST API (API.md)."""
