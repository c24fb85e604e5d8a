"""A model of training on many cores, made from one core and two: ``python -m benchmarks.cores``."""
