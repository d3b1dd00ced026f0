"""What is said of flows, for people and for programs: log, metrics, endpoint, tables."""
