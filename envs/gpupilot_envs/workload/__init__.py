"""Traffic: rate traces, arrivals, generators, fits, splits and recordings."""
