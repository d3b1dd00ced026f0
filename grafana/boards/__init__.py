"""What is on each dashboard, one a module."""
