"""One program per peer, each run by the Python of its own environment (`make peers`)."""
