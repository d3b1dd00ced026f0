"""Packets from capture files."""
