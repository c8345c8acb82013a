"""The engine: knows ports and core, never an adapter."""
