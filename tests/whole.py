"""One compiled epoch for every training, where it is compiled for these tests alone.

``python -m pytest -p tests.whole`` runs tests so. Without it a network takes the epoch that knows
the least: up to three for those of ``test_fit``, which end in the same bits (``test_vocabulary``).
"""

from fastmlp import engine
from fastmlp.kernels._vocabulary import WHOLE


def take_the_whole(replace=setattr):
    """Let every network be trained by the epoch that knows all; replace : sets an attribute."""
    replace(engine, "vocabulary_for", lambda *arguments: WHOLE)


def pytest_configure(config):
    take_the_whole()
