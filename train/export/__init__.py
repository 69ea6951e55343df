"""From trained weights to a bundle."""
