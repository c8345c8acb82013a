"""The promises of the ports, held against every adapter."""
