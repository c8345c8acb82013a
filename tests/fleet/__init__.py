"""Real worker processes under an eye from outside: started, killed, watched, read back.

For the demo and the tests with real processes. Nothing here looks into a worker: it knows processes,
the group's rows in the file, and what stands in the archive.
"""
