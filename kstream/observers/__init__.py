"""Who listens to signals: the log, and Prometheus."""
