"""A training gives a bundle, goes on after a kill, and refuses what would leak."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from engines.errors import ResultsError, SourceError, UserError
from engines.models.bundle import ModelBundle
from engines.models.serving_graph import folded_graph, network_from_bundle, serving_graph
from train.export.half_precision import round_to_bfloat16


def weights_of(folder):
    """Read a bundle's tensors."""
    return load_file(folder / "model.safetensors")


def equal(one, two):
    """Tell whether two sets of tensors are the same, bit for bit."""
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


def test_a_bundle_is_whole_and_serves(bundle):
    """It loads, and its head is one that screening can take apart."""
    loaded = ModelBundle.load(bundle)

    assert loaded.classes == ("all", "hem")
    assert loaded.positive == "all"
    assert loaded.data["protocol"] == "subject"
    assert not set(loaded.data["training_subjects"]) & set(loaded.data["held_out_subjects"])
    serving_graph(loaded)


def test_plain_timm_loads_the_same_network(bundle):
    """timm.create_model("local-dir:...") gives the bundle's weights, tensor by tensor."""
    ours = network_from_bundle(ModelBundle.load(bundle)).state_dict()

    plain = timm.create_model(f"local-dir:{bundle}", pretrained=True)

    assert equal(plain.state_dict(), ours)
    assert plain.pretrained_cfg["crop_mode"] == "squash"
    assert plain.pretrained_cfg["crop_pct"] == 1.0


def test_the_card_states_protocol_figures_and_limits(bundle):
    """Nobody should meet the figures without what they mean."""
    card = (bundle / "README.md").read_text()

    for said in ("research only", "Split by subject", "| AUC |", "95% intervals", "## Limits"):
        assert said in card
    assert "| bf16 | 0.0" in card.partition("## In half precision")[2]
    assert set(ModelBundle.load(bundle).half) == {"fp16", "bf16"}
    for plot in ("roc", "reliability", "confusion", "subjects"):
        assert f"plots/{plot}.png" in card
        assert (bundle / "plots" / f"{plot}.png").read_bytes().startswith(b"\x89PNG")


def test_weights_are_halved_but_statistics_are_not(bundle):
    """Filters are float16; norms and their statistics stay float32."""
    tensors = weights_of(bundle)

    assert {t.dtype for n, t in tensors.items() if t.dim() > 1} == {torch.float16}
    assert all(t.dtype == torch.float32 for n, t in tensors.items() if "running" in n)


def test_a_bundle_knows_its_limits(bundle):
    """Where training lies and what held-out cells are like, hashed; and how well that works."""
    loaded = ModelBundle.load(bundle)
    record = json.loads((bundle / "screening.json").read_text())["data"]["trust"]
    directions = torch.from_numpy(loaded.trust.features.directions)

    assert torch.allclose(directions @ directions.T, torch.eye(len(directions)), atol=1e-4)
    assert len(loaded.trust.held_out.truth) == record["held_out_cells"] == 16
    assert record["held_out_subjects"] == len(loaded.data["held_out_subjects"]) == 4
    assert record["guaranteed"] == {"all": 0.95 * 2 / 3, "hem": 0.95 * 2 / 3}
    assert record["auroc"]["noise"] > 0.9
    modes = {file.stat().st_mode for file in bundle.iterdir() if file.is_file()}
    assert len(modes) == 1


def test_the_same_seed_gives_the_same_bundle(bundle, cells, small, command, tmp_path):
    """Everything random comes from the seed."""
    command("fit", cells, "--out", tmp_path / "again", *small)

    assert equal(weights_of(bundle), weights_of(tmp_path / "again"))


def test_another_seed_gives_another_bundle(bundle, cells, small, command, tmp_path):
    """And the seed does something."""
    command("fit", cells, "--out", tmp_path / "other", *small, "--seed", "1")

    assert not equal(weights_of(bundle), weights_of(tmp_path / "other"))
    assert held_out_by(tmp_path / "other") == held_out_by(bundle)


def test_another_split_seed_holds_out_others(bundle, cells, small, command, tmp_path):
    """And a seed does not: seeds are compared on the same people."""
    command("fit", cells, "--out", tmp_path / "other", *small, "--split-seed", "1")

    assert held_out_by(tmp_path / "other") != held_out_by(bundle)


def held_out_by(folder):
    """Name who was held out."""
    return ModelBundle.load(folder).data["held_out_subjects"]


def test_killed_and_run_again_equals_never_killed(bundle, cells, small, command, tmp_path):
    """SIGKILL after the first epoch costs no number of the result."""
    out = tmp_path / "killed"
    arguments = [sys.executable, "-m", "train.cli", "fit", str(cells), "--out", str(out), *small]
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ}
    )
    state = tmp_path / "killed.training" / "state.pt"
    while not state.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()

    result = command("fit", cells, "--out", out, *small)

    assert "going on after epoch" in result.stderr
    assert equal(weights_of(bundle), weights_of(out))


def test_interrupted_it_keeps_the_best_so_far(cells, small, command, tmp_path, monkeypatch):
    """Ctrl-C in the second epoch publishes the first."""
    from train import fit

    kept = fit.save_state

    def interrupt(*arguments):
        kept(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "save_state", interrupt)

    result = command("fit", cells, "--out", tmp_path / "out", *small)

    assert result.exit_code != 0
    assert ModelBundle.load(tmp_path / "out").data["epochs"] == 1


def test_where_the_last_epoch_is_kept_the_held_out_cells_choose_none(bundle):
    """The subject recipe fixes beforehand which weights are kept, and the card says so."""
    data = ModelBundle.load(bundle).data

    assert data["criterion"] == "last"
    assert data["best_epoch"] == data["epochs"] == 2
    assert "chose no epoch" in (bundle / "README.md").read_text()


def test_another_training_in_the_same_place_is_refused(bundle, cells, small, command):
    """The error names what differs."""
    with pytest.raises(ResultsError, match="recipe batch_size was 8, is 4") as caught:
        command("fit", cells, "--out", bundle, *small, "--batch-size", "4")

    assert "--restart" in caught.value.hint


def test_restart_begins_anew(cells, small, command, tmp_path):
    """What was left there is not gone on with."""
    out = tmp_path / "out"
    command("fit", cells, "--out", out, *small, "--epochs", "1")

    result = command(
        "fit", cells, "--out", out, *small, "--epochs", "1", "--batch-size", "4", "--restart"
    )

    assert result.exit_code == 0
    assert "going on" not in result.stderr


def test_a_loss_that_is_no_number_stops_the_training(cells, small, command, tmp_path):
    """Nothing of it is kept, and the error says what to change."""
    with pytest.raises(UserError, match="the loss is nan at step") as caught:
        command("fit", cells, "--out", tmp_path / "out", *small, "--lr", "1e30")

    assert "--lr" in caught.value.hint


def test_as_is_writes_the_best_so_far_without_training(bundle, cells, small, command, tmp_path):
    """What a training has reached can be had while it waits; with nothing reached, it says so."""
    state = bundle.with_name("bundle.training") / "state.pt"
    (tmp_path / "out.training").mkdir()
    (tmp_path / "out.training" / "state.pt").write_bytes(state.read_bytes())

    command("fit", cells, "--out", tmp_path / "out", *small, "--export-only")

    assert equal(weights_of(bundle), weights_of(tmp_path / "out"))
    with pytest.raises(UserError, match="no epoch is finished"):
        command("fit", cells, "--out", tmp_path / "none", *small, "--export-only")


def test_a_bad_file_is_named_and_left_out(draw, small, command, tmp_path):
    """It is never replaced by a neighbour."""
    folder = draw(tmp_path / "cells")
    (folder / "all" / "UID_1_99_1_all.png").write_bytes(b"not an image")

    result = command("fit", folder, "--out", tmp_path / "out", *small)

    assert "does not decode: all/UID_1_99_1_all.png" in result.stderr


def test_held_out_people_who_were_trained_on_are_refused(cells, small, command, tmp_path):
    """A split by subject that leaks is no split by subject."""
    with pytest.raises(SourceError, match="share 12 subjects and 48 images"):
        command("fit", cells, "--out", tmp_path / "out", *small, "--held-out", cells)


def test_the_paper_recipe_says_that_it_leaks(cells, small, command, tmp_path):
    """Its split by image is done, and said on screen and on the card."""
    options = [*small[:-2], "--epochs", "1", "--folds", "4", "--recipe", "paper", "--no-aug"]

    result = command("fit", cells, "--out", tmp_path / "out", *options)

    assert "Leak: " in result.stderr
    assert "Split by image" in (tmp_path / "out" / "README.md").read_text()


def test_cells_of_one_class_are_refused(draw, small, command, tmp_path):
    """There is nothing to tell apart."""
    folder = draw(tmp_path / "cells")
    with pytest.raises(SourceError, match="all cells are of one class, all"):
        command("fit", folder / "all", "--out", tmp_path / "out", *small)


def test_a_folder_without_class_folders_is_an_error_that_says_so(draw, small, command, tmp_path):
    """Whatever the cells are called, and before anything else is asked of them."""
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, file in enumerate(draw(tmp_path / "cells").rglob("*.png")):
        file.rename(flat / f"{number}.png")

    with pytest.raises(SourceError, match="of one class, flat: the name of the folder") as caught:
        command("fit", flat, "--out", tmp_path / "out", *small)

    assert "a folder named after it" in caught.value.hint


def test_an_unknown_positive_class_is_refused(cells, small, command, tmp_path):
    """The error names the classes there are."""
    with pytest.raises(UserError, match="'blast' is not among all, hem"):
        command("fit", cells, "--out", tmp_path / "out", *small, "--positive", "blast")


def test_a_training_can_be_followed_on_tensorboard(cells, small, command, tmp_path):
    """Losses and metrics are written where TensorBoard reads them."""
    pytest.importorskip("tensorboard")

    command("fit", cells, "--out", tmp_path / "out", *small, "--log-to", "tensorboard")

    assert list((tmp_path / "out.training" / "tensorboard").glob("events*"))


def test_a_start_that_knows_the_held_out_people_is_refused(bundle, cells, small, command, tmp_path):
    """Another fold's model has learned from them."""
    with pytest.raises(UserError, match="was trained on 4 of the held-out subjects"):
        command("fit", cells, "--out", tmp_path / "out", *small, "--init", bundle, "--fold", "1")


def test_a_mean_of_starts_knows_everyone_they_were_trained_on(
    bundle, small, command, draw, tmp_path
):
    """People of a start stay known to what comes of it."""
    own = draw(tmp_path / "cells", seed=3)
    for file in list(own.rglob("*.png")):
        file.rename(file.with_name(file.name.replace("UID_", "UID_N")))
    start = f"{bundle}, {bundle}"

    command("fit", own, "--out", tmp_path / "out", *small, "--init", start)

    before, after = ModelBundle.load(bundle).data, ModelBundle.load(tmp_path / "out").data
    assert set(before["training_subjects"]) < set(after["training_subjects"])
    assert after["init"] == "bundle, bundle"


def test_the_card_says_in_what_a_training_was_not_the_recipes_own(bundle):
    """Every field that an option changed."""
    data = ModelBundle.load(bundle).data

    assert data["changes"]["architecture"] == "resnet10t"
    assert "architecture resnet10t" in (bundle / "README.md").read_text()
    assert "mixup" not in data["changes"]


def test_backgrounds_are_part_of_a_training(cells, small, command, tmp_path):
    """They are recorded; another folder is another training; without augmentation, refused."""
    fields = tmp_path / "fields"
    fields.mkdir()
    Image.effect_noise((90, 90), 20).convert("RGB").save(fields / "a.png")
    options = ["--out", tmp_path / "out", *small, "--epochs", "1"]

    command("fit", cells, *options, "--backgrounds", fields)

    assert ModelBundle.load(tmp_path / "out").data["backgrounds"] == "fields"
    assert "smears of `fields` behind cells" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ResultsError, match="backgrounds"):
        command("fit", cells, *options)
    with pytest.raises(UserError, match="nothing is put behind cells"):
        command("fit", cells, *options, "--backgrounds", fields, "--no-aug", "--restart")


def test_a_network_with_a_class_token_is_trained_and_served(cells, small, command, tmp_path):
    """Of one size only: phases that would show it less show it all, and the bundle has no map."""
    arguments = ("img_size=32", "embed_dim=32", "depth=1", "num_heads=2", "patch_size=8")
    options = [part for pair in arguments for part in ("--model-kwargs", pair)]
    out = tmp_path / "out"

    shown = command(
        "fit", cells, "--out", out, *small, "--model", "deit_tiny_patch16_224", *options,
        "--epochs", "3", "--freeze", "0",
    )  # fmt: skip

    assert shown.exit_code == 0, shown.output
    loaded = ModelBundle.load(out)
    assert serving_graph(loaded).head.places is None
    assert all(phase["view"] is None for phase in loaded.data["changes"]["phases"])
    assert loaded.model_args["img_size"] == 32


def test_what_cannot_be_screened_with_is_refused_before_the_first_epoch(
    cells, small, command, tmp_path
):
    """With the reason, and with nothing written."""
    with pytest.raises(UserError, match="cannot be screened with: it does not run") as caught:
        command("fit", cells, "--out", tmp_path / "out", *small, "--model", "deit_tiny_patch16_224")

    assert "--img-size" in caught.value.hint
    assert not (tmp_path / "out.training").exists()


def test_folded_weights_are_exact_in_bfloat16(bundle):
    """So that bfloat16 computes with the weights that were judged, but for half storage."""
    loaded = ModelBundle.load(bundle)
    folded = [
        module.weight
        for module in folded_graph(loaded).network.modules()
        if isinstance(module, torch.nn.Conv2d) and module.bias is not None
    ]
    off = [((w.bfloat16().float() - w).abs() / w.abs().clamp(min=1e-6)).mean() for w in folded]

    assert len(off) > 10
    assert max(off) < 2**-11


def test_settling_moves_no_weight_by_more_than_half_a_step():
    """And leaves channels alone that a norm switches off."""
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", num_classes=2).eval()
    norm = network.bn1
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.weight[0] = 0
    before = network.conv_stem.weight.clone()

    round_to_bfloat16(network, 32)

    after = network.conv_stem.weight
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after, before)
    assert torch.all((after - before).abs() <= before.abs() * 2**-8 * 1.001)
