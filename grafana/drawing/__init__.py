"""Pictures of the dashboards, drawn by this program from what a Prometheus answers; it is not Grafana that draws them.

`answers` asks what the panels ask, `tables` and `units` make text of it, `canvas`, `charts` and `pictures` draw.
"""

import os
from pathlib import Path

# matplotlib keeps a list of fonts, by its own choice in the home folder.
os.environ.setdefault("MPLCONFIGDIR", str(Path(__file__).parents[2] / ".testbed" / "matplotlib"))
