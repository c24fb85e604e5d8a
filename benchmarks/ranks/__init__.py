"""One fit on several machines: what it costs, measured on one and on paper for up to 1,024."""
