"""Model hubs: bundles pushed to one, and models fetched from one, by huggingface_hub."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from engines.errors import UserError
from engines.models.bundle import ModelBundle

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BUNDLE_FILES", "MODEL_FILES", "fetched", "pushed"]

MODEL_FILES = ("config.json", "model.safetensors", "pytorch_model.bin")
BUNDLE_FILES = (
    "config.json",
    "model.safetensors",
    "screening.json",
    "trust.safetensors",
    "README.md",
    "plots/*.png",
)


def fetched(name: str) -> Path:
    """
    Fetch a model's files from the hub, or from its cache, and return their folder.

    Args:
        name: ``owner/model``, or ``owner/model@revision``.

    Raises:
        UserError: If there is no such model, or the hub cannot be reached.
    """
    repository, _, revision = name.partition("@")
    with _asked(name):
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=[*MODEL_FILES, *BUNDLE_FILES],
            )
        )


def pushed(folder: Path, name: str, *, private: bool) -> str:
    """
    Push a bundle to the hub, its files and nothing else, as one commit.

    Args:
        folder: The bundle's; checked whole before anything is sent.
        name: ``owner/model``; made if it is not there.
        private: Whether a new one is hidden from others.

    Returns:
        The address of the commit.

    Raises:
        BundleError: If the folder is no valid bundle.
        UserError: If the hub cannot be reached or refuses.
    """
    bundle = ModelBundle.load(folder)
    hub = HfApi()

    with _asked(name):
        hub.create_repo(name, private=private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=list(BUNDLE_FILES),
            commit_message=f"Bundle {bundle.sha256}",
        )
    return str(commit.commit_url)


@contextmanager
def _asked(name: str) -> Iterator[None]:
    """Ask the hub; its refusals become our errors."""
    try:
        yield
    except HfHubHTTPError as error:
        raise UserError(
            f"the hub refuses {name}: {_first_line(error)}",
            hint="check the name (owner/model); for a private model, or to publish, run `hf auth "
            "login` or set HF_TOKEN to a token that may",
        ) from error
    except HFValidationError as error:
        raise UserError(
            f"{name!r} is not a model's name: {_first_line(error)}", hint="it is owner/model"
        ) from error
    except (
        Exception
    ) as error:  # whatever the client of this version raises when there is no network
        raise UserError(
            f"the hub at {constants.ENDPOINT} cannot be asked for {name}: {_first_line(error)}",
            hint="check the connection, or give a local folder",
        ) from error


def _first_line(error: Exception) -> str:
    """Return what matters of a message."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
