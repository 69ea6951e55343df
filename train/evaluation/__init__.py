"""How a model is judged and calibrated on held-out people."""
