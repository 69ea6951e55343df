"""From pixels to scores: ``base`` states the contract, one file per runtime keeps it."""
