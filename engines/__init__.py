"""Cell bytes in, scores out: everything that training and screening must share."""
