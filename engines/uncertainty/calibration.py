"""Calibrated probabilities, the call at the operating point, and the class that it comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.models.bundle import ModelBundle

__all__ = ["positives", "predictions", "probabilities"]


def probabilities(logits_NC: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """
    Calibrate by temperature scaling.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 4.2.

    Args:
        logits_NC: ``(N, C)`` finite.
        temperature: Positive; 1 changes nothing.

    Returns:
        ``(N, C)`` float32; each row sums to 1.
    """
    from scipy.special import softmax  # not for those who only ask for help

    scaled_NC = logits_NC.astype(np.float64) / temperature
    return np.asarray(softmax(scaled_NC, axis=1)).astype(np.float32)


def positives(
    probabilities_NC: NDArray[np.float32], bundle: ModelBundle
) -> NDArray[np.bool_] | None:
    """
    Call each cell at the bundle's threshold.

    Returns:
        ``(N,)``, or None if the bundle names no positive class.
    """
    if bundle.positive is None or bundle.threshold is None:
        return None
    column = probabilities_NC[:, bundle.classes.index(bundle.positive)]
    return column.astype(np.float64) >= bundle.threshold


def predictions(probabilities_NC: NDArray[np.float32], bundle: ModelBundle) -> NDArray[np.intp]:
    """
    Name each cell's class so that it never contradicts its call.

    Returns:
        ``(N,)``, an index into the bundle's classes: the positive class where ``positives`` calls
        the cell, otherwise the most likely of the other classes; of all classes if the bundle names
        no positive class.
    """
    called = positives(probabilities_NC, bundle)
    if called is None or bundle.positive is None:
        return np.asarray(probabilities_NC.argmax(axis=1))
    number = bundle.classes.index(bundle.positive)
    others_NC = probabilities_NC.copy()
    others_NC[:, number] = -1.0  # below every probability
    return np.where(called, number, others_NC.argmax(axis=1))
