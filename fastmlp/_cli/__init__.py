"""The commands behind fastmlp.cli."""
