"""Kinesis Data Streams: reading by polling and by push, writing, aggregation, control."""
