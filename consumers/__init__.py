"""Small programs that consume: `python -m consumers.NAME`. Read them as documentation."""
