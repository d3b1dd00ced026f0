"""Hypothesis without its clock and without chance: a busy machine is no reason to fail, and neither is another run.

`make soak` looks at examples that nobody has seen yet.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("any run", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("new examples", settings.get_profile("any run"), derandomize=False, print_blob=True)
settings.load_profile("any run")
