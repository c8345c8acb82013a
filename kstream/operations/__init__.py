"""What operators do, as functions that return values: the command line prints them, a console may.

Nothing here prints, asks or exits. Streams and stores come as ports.
"""
