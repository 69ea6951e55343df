"""From options to results: start, stream, finish."""
