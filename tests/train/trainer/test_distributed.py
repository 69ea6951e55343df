"""One training in two processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from engines.errors import UserError
from engines.models.bundle import ModelBundle
from train.trainer.distributed import ALONE, Processes, joined


def test_a_batch_is_shared_out_whole():
    """Every cell is in exactly one process's part, and parts are even."""
    batch = torch.arange(8)

    parts = [Processes(rank, 4).share(batch) for rank in range(4)]

    assert sorted(torch.cat(parts).tolist()) == batch.tolist()
    assert {len(part) for part in parts} == {2}


def test_processes_draw_differently_and_the_first_as_if_alone():
    """Else two GPUs would see the same augmentation."""
    drawn = [
        torch.rand(3, generator=Processes(rank, 2).seeded(torch.Generator().manual_seed(5)))
        for rank in range(2)
    ]

    alone = torch.rand(3, generator=ALONE.seeded(torch.Generator().manual_seed(5)))
    assert torch.equal(drawn[0], alone)
    assert not torch.equal(drawn[0], drawn[1])


def test_a_batch_that_cannot_be_shared_out_is_refused(monkeypatch):
    """With one that can."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="8 cells cannot be shared out evenly to 3") as caught:
        joined("cpu", 8).__enter__()
    assert "--batch-size 9" in caught.value.hint


def _torchrun(*arguments):
    """Run the training command in two processes; return what they print."""
    return subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
            "--master-addr", "127.0.0.1", "--master-port", "0", "--rdzv-backend", "c10d",
            "--rdzv-endpoint", "127.0.0.1:0", "-m", "train.cli", *map(str, arguments),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.long
def test_two_processes_train_one_network(cells, small, tmp_path, command):
    """One bundle, said once; killed after an epoch it goes on; one process alone does not."""
    run = _torchrun("fit", cells, "--out", tmp_path / "out", *small, "--threads", "1")

    assert run.returncode == 0, run.stderr
    assert run.stderr.count("Bundle ") == 1
    assert run.stderr.count("epoch 2:") == 1
    assert ModelBundle.load(tmp_path / "out").data["epochs"] == 2
    state = torch.load(tmp_path / "out.training" / "state.pt", weights_only=True)
    assert state["identity"]["processes"] == "2"
    with pytest.raises(UserError, match="another training: processes was 2, is 1"):
        command("fit", cells, "--out", tmp_path / "out", *small)
