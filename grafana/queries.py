"""The selectors of the dashboards: every one has the matchers of the dashboard's variables."""

from typing import Literal

_EVERY = 'job=~"$job", instance=~"$instance"'


def proxy(metric: str, *matchers: str, **equal: str) -> str:
    """A metric of the proxy that has a route, by the name behind `binlock_proxy_`.

    Args:
        metric: the rest of its name.
        matchers: as PromQL has them.
        equal: labels and their values.
    """
    return _selector(f"binlock_proxy_{metric}", 'route=~"$route"', *matchers, *_equal(equal))


def proxy_wide(metric: str) -> str:
    """A metric of the proxy as a whole, which no route narrows."""
    return _selector(f"binlock_proxy_{metric}")


def monitor(metric: str, *matchers: str, **equal: str) -> str:
    """A metric of the monitor, by the name behind `binlock_monitor_`; see `proxy`."""
    return _selector(f"binlock_monitor_{metric}", *matchers, *_equal(equal))


def process(metric: str) -> str:
    """A metric that every process has, or that Prometheus makes of each scrape."""
    return _selector(metric)


def rate(selector: str) -> str:
    """A counter's growth, per second."""
    return f"rate({selector}[$__rate_interval])"


def in_range(selector: str) -> str:
    """A counter's growth over the time that the dashboard shows."""
    return f"increase({selector}[$__range])"


def quantile(of: Literal["0.5", "0.95", "0.99"], histogram: str, *, by: str = "") -> str:
    """A quantile of a histogram's last observations.

    Args:
        of: which.
        histogram: a selector of its buckets.
        by: labels that part the observations, separated by commas.
    """
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({of}, sum by ({labels}) ({rate(histogram)}))"


def _selector(metric: str, *matchers: str) -> str:
    return f"{metric}{{{', '.join([_EVERY, *matchers])}}}"


def _equal(values: dict[str, str]) -> list[str]:
    return [f'{label}="{value}"' for label, value in values.items()]
