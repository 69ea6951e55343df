"""Two runs over the same cells, held against each other."""
