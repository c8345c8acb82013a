"""Object stores: in memory, and in a directory of one machine."""
