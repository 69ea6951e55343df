"""Which cells an epoch shows: balanced classes, subjects evened out, short epochs of few."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from train.recipe import PAPER, SUBJECT
from train.trainer.sampler import epoch_order, samples_per_class


def seeded():
    """Make a generator that always draws the same."""
    return torch.Generator().manual_seed(0)


CLASSES = torch.tensor([0] * 90 + [1] * 10)
SUBJECTS = torch.tensor([0] * 80 + [1] * 10 + [2] * 9 + [3])


def test_sampling_by_subject_balances_classes_and_evens_out_subjects():
    """Half the draws are of each class; a large subject gets less than its share of cells."""
    order = epoch_order(
        replace(SUBJECT, samples_per_class=None),
        CLASSES,
        SUBJECTS,
        torch.Generator().manual_seed(0),
    )

    assert torch.bincount(CLASSES[order]).tolist() == [50, 50]
    drawn = torch.bincount(SUBJECTS[order], minlength=4)
    assert drawn[0] < 50 * 80 / 90
    assert drawn[3] > 50 * 1 / 10


def test_the_paper_brings_each_class_to_its_number():
    """Every cell equally often, give or take one."""
    order = epoch_order(
        replace(PAPER, max_repeats=None), CLASSES, SUBJECTS, torch.Generator().manual_seed(0)
    )

    assert torch.bincount(CLASSES[order]).tolist() == [10_000, 10_000]
    times = torch.bincount(order)
    assert set(times[:90].tolist()) == {111, 112}
    assert set(times[90:].tolist()) == {1000}


@pytest.mark.parametrize("recipe", [SUBJECT, PAPER])
def test_few_cells_make_short_epochs(recipe):
    """72 cells of three classes are shown four times each, in nine steps and not in 328."""
    order = epoch_order(recipe, torch.arange(72) % 3, torch.arange(72), torch.Generator())

    assert len(order) == 4 * 72
    assert len(order) // recipe.batch_size == 9


def test_full_data_are_not_limited():
    """C-NMC's folds have their 3,500 a class, and its whole the paper's 10,000."""
    assert samples_per_class(SUBJECT, 3_483 / 2) == 3_500
    assert samples_per_class(PAPER, 10_661 / 2) == 10_000
