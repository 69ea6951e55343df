"""From encoded bytes to pixels at the model's size: ``base`` states the contracts."""
