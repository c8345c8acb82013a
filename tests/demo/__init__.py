"""`make demo`: a year of flights through splits, a merge, a killed and a stopped worker; then proof."""
