"""Lease stores: where the rows of a group are kept."""
