"""One module per question: ``python -m benchmarks.NAME``; ``python -m benchmarks`` asks them all."""
