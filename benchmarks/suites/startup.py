"""What it costs to begin, in fresh processes."""

from benchmarks import coldstart


def track_import_beyond_numba():
    """Seconds that importing ``MLP`` from fastmlp takes once Numba is imported."""
    return coldstart.import_seconds()["fastmlp"]


track_import_beyond_numba.unit = "s"


def track_first_step_cold():
    """Seconds from calling ``fit`` to the end of the first steps, with nothing compiled."""
    with coldstart.empty_cache() as cache:
        return coldstart.start(cache)["first_step"]


track_first_step_cold.unit = "s"
track_first_step_cold.timeout = 600


def track_first_step_warm():
    """The same in a process that finds everything compiled."""
    with coldstart.empty_cache() as cache:
        coldstart.start(cache)
        return min(coldstart.start(cache)["first_step"] for _ in range(3))


track_first_step_warm.unit = "s"
track_first_step_warm.timeout = 600


def track_cache_size():
    """Bytes of compiled code that training in float32 leaves on disk."""
    with coldstart.empty_cache() as cache:
        coldstart.start(cache)
        return coldstart.cache_size(cache)[1]


track_cache_size.unit = "B"
track_cache_size.timeout = 600
