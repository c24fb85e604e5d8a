"""fastmlp beside other libraries: ``python -m benchmarks.compare --help``.

Every library runs in a process of its own, which waits on a pipe while the others are measured,
so that no thread pool disturbs another. Rounds go A B C A B C, so that a slow spell of the machine
hits all alike. The machine's own limits are measured in the same rounds.
"""
