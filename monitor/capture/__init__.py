"""Packets from interfaces: sockets, the kernel's filter, privileges given up."""
