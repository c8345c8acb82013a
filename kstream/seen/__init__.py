"""Seen stores: where the runs of record IDs are kept."""
