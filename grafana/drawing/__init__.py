"""Pictures of the dashboards, drawn by this program from what a Prometheus answers; it is not Grafana that draws them.

`answers` asks what the panels ask, `tables` and `units` make text of it, `canvas`, `charts` and `pictures` draw.
"""
