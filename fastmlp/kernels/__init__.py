"""Numba functions on raw arrays: all arithmetic lives here."""

# First of all: it takes the digest of these files, by which compiled code is found again.
from . import _jit as _jit
