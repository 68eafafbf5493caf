"""Readers meet small valid files that were mutated. What each may do: read them, or refuse them by name."""
