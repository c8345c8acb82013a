"""What the engine needs from the world, as Protocols of a few methods each."""
