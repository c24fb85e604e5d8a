"""From NumPy to the speed limit: ten programs that train one network, each faster than the last."""
