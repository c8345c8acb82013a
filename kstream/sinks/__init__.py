"""Sinks over the ports: objects that are created once, and dead letters of the same kind."""
