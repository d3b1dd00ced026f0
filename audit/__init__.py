"""What the servers themselves say of their replication: read over SQL, judged, and mended in words."""
