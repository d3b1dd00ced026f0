"""What the proxy says of itself: log, metrics, the admin endpoint and its status page."""
