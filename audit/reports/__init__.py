"""Findings for people and for programs: a table, JSON, SARIF, a Prometheus textfile, and scripts that mend them."""
