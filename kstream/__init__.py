"""Sharded streams for Python."""
