"""What a flow is, from its bytes alone: no I/O, no clock, no packets. Read `inspector.py` first."""
