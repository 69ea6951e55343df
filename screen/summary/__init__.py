"""From cells to slides: sums, shares, flags, the most suspicious cells."""
