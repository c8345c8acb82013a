"""Object stores: in memory, in a directory of one machine, and in S3."""
