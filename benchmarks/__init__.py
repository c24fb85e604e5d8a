"""How fast fastmlp is: asv suites, kernels against NumPy, and whole libraries side by side."""
