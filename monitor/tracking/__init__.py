"""From segments to flows: put in order, bounded, settled; and what is said of each."""
