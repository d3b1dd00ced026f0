"""The judges: pure functions from facts to verdicts."""
