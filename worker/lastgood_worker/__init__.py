"""The process that watches: it settles, judges and publishes. It alone writes verdicts."""
