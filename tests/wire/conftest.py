"""Hypothesis without its clock: a busy machine is no reason for a parser's test to fail."""

from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
