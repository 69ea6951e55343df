"""Cell bytes in, scores out: everything that training and screening must share."""

import logging
import os

# Before torch loads OpenMP: threads that spin at its barriers make FP32 PyTorch eight times
# slower as soon as anything else wants a core (3.7 s against 0.5 s for eight cells on two cores).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A library says nothing by itself: whoever uses it decides where its log goes.
for _name in ("engines", "screen", "train", "slidescreen"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
