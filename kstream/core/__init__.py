"""What kstream decides, as arithmetic on values: no I/O, no clock, no vendor."""
