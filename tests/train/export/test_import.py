"""Models that were trained elsewhere become bundles; bundles go to a hub and come back."""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from engines.errors import UserError
from engines.models.bundle import ModelBundle
from engines.models.serving_graph import network_from_bundle

ARCHITECTURE = "resnet10t"
SIZE = ("--img-size", "32", "--norm", "half")
AS_TWO = ("--classes", "hem,all", "--positive", "all", "--model", ARCHITECTURE, *SIZE)


@pytest.fixture(scope="module")
def network():
    """A small timm network of two classes with random weights."""
    torch.manual_seed(0)
    return timm.create_model(ARCHITECTURE, num_classes=2).eval()


@pytest.fixture
def weights(network, tmp_path):
    """Its weights as a file."""
    file = tmp_path / "model.safetensors"
    save_file(network.state_dict(), file)
    return file


def _same_logits(bundle, network):
    """Whether the bundle's network says what the first one said."""
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        return torch.equal(network_from_bundle(bundle)(images), network(images))


def test_a_file_of_weights_becomes_a_bundle_that_says_it_is_not_calibrated(
    command, weights, network, tmp_path
):
    """Same network, whole crop, no temperature, threshold a half; timm loads it, too."""
    result = command("import", weights, *AS_TWO, "--out", tmp_path / "bundle")

    assert result.exit_code == 0, result.output
    bundle = ModelBundle.load(tmp_path / "bundle")
    assert (bundle.classes, bundle.positive, bundle.threshold) == (("hem", "all"), "all", 0.5)
    assert (bundle.temperature, bundle.input.crop_pct, bundle.input.mean[0]) == (1.0, 1.0, 0.5)
    assert _same_logits(bundle, network)
    assert bundle.trust is None
    card = (bundle.folder / "README.md").read_text()
    assert "not calibrated" in card
    assert "license: other" in card
    assert "Not calibrated" in result.output
    loaded = timm.create_model(f"local-dir:{bundle.folder}", pretrained=True)
    assert all((loaded.state_dict()[n] == w).all() for n, w in network.state_dict().items())


def test_labelled_cells_calibrate_and_judge_it(command, weights, cells, tmp_path):
    """Temperature, threshold and figures are of the cells; trust only with training cells."""
    out = tmp_path / "bundle"

    command("import", weights, cells, *AS_TWO, "--out", out, "--decoder", "pillow")

    bundle = ModelBundle.load(out)
    assert bundle.temperature != 1.0
    assert bundle.data["evaluation"]["cells"] == 48
    assert bundle.trust is None
    assert "trained elsewhere" in (out / "README.md").read_text()
    assert load_file(bundle.weights).keys() == load_file(weights).keys()


def test_training_cells_say_where_training_lies(command, weights, cells, draw, tmp_path):
    """With both, there is trust; people on both sides are refused."""
    held_out = draw(tmp_path / "others", subjects=3, seed=5)
    for file in sorted(held_out.rglob("*.png")):
        file.rename(file.with_name(file.name.replace("UID_", "UID_9")))
    given = ("import", weights, held_out, *AS_TWO, "--decoder", "pillow")

    command(*given, "--training", cells, "--out", tmp_path / "bundle")

    assert ModelBundle.load(tmp_path / "bundle").trust is not None
    assert "## How far to trust it" in (tmp_path / "bundle" / "README.md").read_text()
    with pytest.raises(UserError, match="both in --training and in CELLS"):
        command(*given, "--training", held_out, "--out", tmp_path / "other")


def test_timms_own_checkpoint_gives_its_averaged_weights(command, network, tmp_path):
    """The arguments of timm's train.py inside are no obstacle; the average is taken."""
    averaged = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    saved = {"state_dict": network.state_dict(), "state_dict_ema": averaged,
             "args": argparse.Namespace(lr=1.0), "arch": ARCHITECTURE}  # fmt: skip
    torch.save(saved, tmp_path / "last.pth.tar")

    command("import", tmp_path / "last.pth.tar", *AS_TWO, "--out", tmp_path / "bundle")

    found = load_file(ModelBundle.load(tmp_path / "bundle").weights)
    assert all((found[name] == tensor).all() for name, tensor in averaged.items())


class Planted:
    """What a pickle must not be able to do."""

    def __reduce__(self):
        """Touch a file when unpickled."""
        return os.system, ("touch planted",)


def test_a_pickle_that_holds_code_is_not_run(command, tmp_path, monkeypatch):
    """It is refused, and nothing has happened."""
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Planted()}, "bad.pth")

    with pytest.raises(UserError, match="cannot read weights"):
        command("import", "bad.pth", *AS_TWO, "--out", "bundle")

    assert not Path("planted").exists()


def test_a_folder_of_timms_says_its_architecture_and_input(command, network, tmp_path):
    """What save_for_hf wrote is enough, but for what the classes mean."""
    save_for_hf(network, tmp_path / "saved", safe_serialization=True)

    command(
        "import", f"local-dir:{tmp_path / 'saved'}", "--classes", "hem,all",
        "--out", tmp_path / "bundle",
    )  # fmt: skip

    bundle = ModelBundle.load(tmp_path / "bundle")
    assert bundle.architecture == ARCHITECTURE
    assert (bundle.input.height, bundle.input.width) == network.pretrained_cfg["input_size"][1:]
    assert bundle.positive is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--classes", "a,b,c", "--model", ARCHITECTURE), r"is \(2,.* but \(3,"),
        (("--classes", "a,b", "--model", "resnet18"), "with these classes|not a whole resnet18"),
        (("--classes", "a,b", "--model", "no_such_net"), "cannot build no_such_net"),
        (("--classes", "a,b", "--model", "hf-hub:a/b"), "not the name of one of timm's"),
        (
            ("--classes", "a,b", "--model", ARCHITECTURE, "--model-kwargs", "pretrained=true"),
            "pretrained",
        ),
        (("--classes", "a,b"), "does not say which architecture"),
    ],
)
def test_what_does_not_fit_is_refused(command, weights, tmp_path, options, message):
    """Nothing is written."""
    with pytest.raises(UserError, match=message):
        command("import", weights, *options, "--out", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_labels_that_the_model_has_no_output_for_are_refused(command, weights, cells, tmp_path):
    """Rather than judged as something else."""
    with pytest.raises(UserError, match="cells are labelled hem; the model's classes are all, x"):
        command(
            "import", weights, cells, "--classes", "all,x", "--model", ARCHITECTURE, *SIZE,
            "--out", tmp_path / "bundle",
        )  # fmt: skip


class Hub(BaseHTTPRequestHandler):
    """As much of a model hub as a bundle needs: one model, kept in the server."""

    def log_message(self, *_):
        """Say nothing."""

    def answer(self, body, status=200, **headers):
        """Send bytes, or a record as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(data), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_POST(self):
        """Make the model; take files."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        files = self.server.files
        if self.headers.get("Authorization") != "Bearer good":
            self.answer({"error": "no"}, 401)
        elif self.path == "/api/repos/create":
            self.answer({"url": f"http://{self.headers['Host']}/lab/m"})
        elif "/preupload/" in self.path:
            named = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in named]
            self.answer({"files": modes})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        else:
            for record in map(json.loads, body.splitlines()):
                if record["key"] == "file":
                    value = record["value"]
                    files[value["path"]] = base64.b64decode(value["content"])
            place = f"http://{self.headers['Host']}/lab/m/commit/{'c' * 40}"
            self.answer({"success": True, "commitOid": "c" * 40, "commitUrl": place})

    def do_GET(self):
        """List the model's files, or send one."""
        files = self.server.files
        name = self.path.split("/resolve/")[-1].partition("/")[2]
        if "/tree/" in self.path:
            listed = [
                {"type": "file", "path": each, "size": len(data), "oid": "c" * 40}
                for each, data in files.items()
            ]
            self.answer(listed)
        elif self.path.startswith("/api/"):
            listed = [{"rfilename": each} for each in files]
            self.answer({"id": "lab/m", "sha": "c" * 40, "siblings": listed})
        elif name in files:
            self.answer(files[name], ETag=f'"{name}"', X_Repo_Commit="c" * 40)
        else:
            self.answer({"error": "not here"}, 404, X_Error_Code="EntryNotFound")

    do_HEAD = do_GET  # noqa: N815 -- the name that the server looks for


@pytest.fixture
def hub():
    """A running hub."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


TWO = """
import sys
from click.testing import CliRunner
from train.cli.commands import cli
for line in sys.argv[1:]:
    result = CliRunner().invoke(cli, line.split())
    print(result.exit_code, result.output, result.exception, getattr(result.exception, "hint", ""))
"""


def _commands(hub, folder, token, *lines):
    """Run commands in a process that knows only this hub."""
    address = f"http://127.0.0.1:{hub.server_address[1]}"
    given = {"HF_ENDPOINT": address, "HF_TOKEN": token, "HF_HOME": str(folder / "home")}
    return subprocess.run(
        [sys.executable, "-c", TWO, *lines], capture_output=True, text=True, check=True,
        env={**os.environ, **given},
    ).stdout  # fmt: skip


def test_a_published_bundle_comes_back_the_same(hub, bundle, tmp_path):
    """By its own hash; what lies beside the bundle's files is not sent."""
    (bundle / "notes.txt").write_text("mine")
    said = _commands(
        hub, tmp_path, "good",
        f"publish {bundle} hf:lab/m",
        f"import hf-hub:lab/m --out {tmp_path / 'back'}",
    )  # fmt: skip

    assert "/lab/m/commit/cccc" in said, said
    assert "notes.txt" not in hub.files
    assert ModelBundle.load(tmp_path / "back").sha256 == ModelBundle.load(bundle).sha256


def test_a_hub_that_refuses_is_an_error_with_a_hint(hub, bundle, tmp_path):
    """It names the token."""
    said = _commands(hub, tmp_path, "bad", f"publish {bundle} hf:lab/m")

    assert "the hub refuses lab/m" in said, said
    assert "HF_TOKEN" in said
