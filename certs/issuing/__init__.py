"""An authority as a folder, and what it signs: leaves, their successors, revocation lists."""
