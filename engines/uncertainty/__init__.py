"""
What scores mean and how far to trust them: fitted by ``train``, applied by ``screen``.

calibration   logits -> probabilities, and the call at the operating point
conformal     probabilities -> sets of classes that hold the truth at a chosen rate
distance      features and colours -> how far from training, and how rare that is
rates         calls of a slide -> the share of positive cells, with an interval
record        all that is fitted, as one file of a bundle

Legend: N cells, C classes, F features, K directions, S subjects.
"""

from engines.uncertainty.calibration import positives, predictions, probabilities

__all__ = ["positives", "predictions", "probabilities"]
