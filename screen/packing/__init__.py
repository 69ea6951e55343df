"""Many small files packed into few large ones, which are read faster."""
