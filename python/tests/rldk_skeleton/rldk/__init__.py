"""Skeleton of rldk for netmon's tests: layout, names and imports only."""

__version__ = "0.1.0"
