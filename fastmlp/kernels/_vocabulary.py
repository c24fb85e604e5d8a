"""How much of what a network may have a compiled epoch knows.

Most networks have few of the layers' extras, and most trainings one kind of update. An epoch that
knows no more than that is compiled in half the time; it is the same code otherwise, to the bit. As
with units, a vocabulary is a type: a helper that is decorated with ``needs`` does nothing in an
epoch of a smaller one, and the compiler never sees what is in it.
"""

from __future__ import annotations

from typing import NamedTuple

from ._jit import inline_where
from ._reference import Reference
from ._units import FloatUnit


class Momentum(NamedTuple):
    """Products and activations, and momentum in the tiles of the gradient."""

    level: int = 0


class Rules(NamedTuple):
    """All rules of an update, and what is done with gradients before it."""

    level: int = 1


class Whole(NamedTuple):
    """Norms, dropout and whatever else layers may have, too."""

    level: int = 2


Vocabulary = Momentum | Rules | Whole


def wider(least: Vocabulary) -> list[type[Vocabulary]]:
    """A vocabulary and all larger ones, the smallest first."""
    return [each for each in (Momentum, Rules, Whole) if each().level >= least.level]


def _network_of(arguments):
    """The type of the ``Network`` that is among the types of a helper's arguments."""
    for argument in arguments:
        if isinstance(argument, Reference) and "vocabulary" in argument.target.fields:
            return argument
    raise TypeError("a helper with a condition must be given a Reference to a Network")


def needs(vocabulary):
    """``inline`` for a helper that does nothing in the epochs of a smaller vocabulary."""

    def is_known(arguments):
        known = _network_of(arguments).field("vocabulary").instance_class
        return known().level >= vocabulary().level

    return inline_where(is_known)


def _rounds(arguments):
    unit = _network_of(arguments).field("packed").field("unit")
    return unit.instance_class is not FloatUnit


# ``inline`` for a helper that does nothing where floats are multiplied as they are.
needs_rounding = inline_where(_rounds)
