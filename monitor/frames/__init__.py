"""From frames to TCP segments, by the shortest way each frame allows."""
