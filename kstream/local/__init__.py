"""Streams of one machine: embedded and durable (`stream`), or in memory (`memory`).

Nothing is imported here: who uses the one need not load the other.
"""
