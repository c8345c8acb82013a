"""Small programs that produce: `python -m producers.NAME --help`. Read them as documentation."""
