"""The dashboards for Grafana, built by `python -m grafana`: read boards/overview.py first.

`boards` says what is on each dashboard, `panels` and `frame` how Grafana wants it written, `style` how it looks.
"""
