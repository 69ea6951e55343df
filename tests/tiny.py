"""Bundles small enough to compile in a moment."""

from __future__ import annotations

import numpy as np
import timm
import torch
from safetensors.torch import save_file

from engines.models.bundle import save_bundle
from engines.uncertainty.fitted import HeldOut, Trust
from engines.uncertainty.ood import ColourSpace, FeatureSpace

HALF = [0.5, 0.5, 0.5]


def make_bundle(
    folder, *, classes, positive, size=32, seed=0, architecture="test_efficientnet", trusted=False
):
    """Write and load a bundle of a tiny random network; *trusted*: with made-up trust data."""
    torch.manual_seed(seed)
    network = timm.create_model(architecture, num_classes=len(classes))
    with torch.no_grad():
        network.get_classifier().weight.mul_(30)  # spread the scores of a random network
    save_file(network.state_dict(), folder / "weights.tmp")
    return save_bundle(
        folder,
        config=config(architecture, len(classes), size),
        weights=folder / "weights.tmp",
        screening=screening(classes, positive, size),
        trust=trust(len(classes), network.num_features) if trusted else None,
    )


def trust(classes, features, subjects=6, each=20):
    """Make up held-out cells: whose, of which class, called rightly more often than not."""
    rng = np.random.default_rng(0)
    count = subjects * each
    owners = np.repeat(np.arange(subjects), each)
    truth = (owners % classes).astype(np.int32)
    logits = rng.normal(size=(count, classes)) + 2 * np.eye(classes)[truth]
    space = FeatureSpace.fitted(rng.normal(size=(count, features)), truth)
    colours = ColourSpace.fitted(rng.normal(0.5, 0.1, (count, 6)))
    held_out = HeldOut(
        logits.astype(np.float32),
        truth,
        owners.astype(np.int32),
        space.distances(rng.normal(size=(count, features))),
        colours.distances(rng.normal(0.5, 0.1, (count, 6))),
    )
    return Trust(held_out, space, colours)


def config(architecture, num_classes, size):
    """Return timm's config.json."""
    return {
        "architecture": architecture,
        "num_classes": num_classes,
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": HALF,
            "std": HALF,
            "num_classes": num_classes,
            "first_conv": "conv_stem",
            "classifier": "classifier",
        },
    }


def screening(classes, positive, size):
    """Return screening.json as save_bundle takes it."""
    return {
        "classes": classes,
        "positive": positive,
        "threshold": None if positive is None else 0.5,
        "temperature": 1.3,
        "input": {
            "height": size,
            "width": size,
            "fit": "squash",
            "filter": "bicubic",
            "mean": HALF,
            "std": HALF,
        },
        "data": {"name": "none", "licence": "none"},
    }
