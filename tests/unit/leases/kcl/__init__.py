"""The lease table of a KCL 2.x application."""
