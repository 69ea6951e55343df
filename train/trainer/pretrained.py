"""timm's pretrained weights: from the local cache or the hub, or an error at once where neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import timm
import torch
from huggingface_hub import constants, get_session, try_to_load_from_cache
from timm.models import get_pretrained_cfg

from engines.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

__all__ = ["arguments_taken", "pretrained_network", "untrained_network"]

FILES = (
    "model.safetensors",
    "pytorch_model.bin",
)  # as timm names them on the hub, first choice first
REACHED_WITHIN_S = 5.0


def arguments_taken(
    architecture: str, arguments: Mapping[str, Any], optional: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Return *arguments* and those of *optional* that the architecture takes.

    Args:
        architecture: timm's name.
        arguments: Of ``timm.create_model``.
        optional: Further ones, left out where the architecture has no such argument: not every
            network has paths to drop.

    Raises:
        UserError: If timm does not know the architecture or does not take one of *arguments*.
    """
    taken = dict(optional)
    with torch.random.fork_rng(devices=[]):  # the network that is kept is built after this
        while True:
            try:
                timm.create_model(architecture, **{**arguments, **taken})
            except TypeError as error:
                refused = next((name for name in taken if repr(name) in str(error)), None)
                if refused is None or refused in arguments:
                    raise _not_built(architecture, error) from error
                del taken[refused]
            except (AssertionError, RuntimeError, ValueError) as error:
                raise _not_built(architecture, error) from error
            else:
                return {**arguments, **taken}


def untrained_network(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """
    Build a network with random weights.

    Args:
        architecture: timm's name.
        arguments: Further arguments of ``timm.create_model``.

    Raises:
        UserError: If timm does not know the architecture or does not take an argument.
    """
    try:
        network: nn.Module = timm.create_model(architecture, **arguments)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise _not_built(architecture, error) from error
    return network


def pretrained_network(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """
    Build a network with timm's pretrained weights; its head is fresh where its classes are others.

    Args:
        architecture: timm's name.
        arguments: Further arguments of ``timm.create_model``, known to be taken.

    Raises:
        UserError: If the weights are not on this machine and the hub does not answer.
    """
    try:
        network: nn.Module = timm.create_model(
            architecture, pretrained=True, **_without_retries(architecture), **arguments
        )
    except (OSError, RuntimeError) as error:
        raise _not_downloaded(architecture, error) from error
    return network


def _without_retries(architecture: str) -> dict[str, Any]:
    """
    Return what keeps timm from asking a hub that is away for most of a minute, six times a file.

    Raises:
        OSError: If the hub does not answer and the weights are not in its cache.
    """
    known = get_pretrained_cfg(architecture)
    if known is None or not known.hf_hub_id or _hub_answers():
        return {}
    cached = (try_to_load_from_cache(known.hf_hub_id, name) for name in FILES)
    file = next((found for found in cached if isinstance(found, str)), None)
    if file is None:
        raise OSError(f"{constants.ENDPOINT} does not answer, and they are not in its cache")
    return {"pretrained_cfg_overlay": {"file": file}}


def _hub_answers() -> bool:
    """Ask the hub once, by the client and the proxies that a download would use."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=REACHED_WITHIN_S)
    except Exception:  # whatever the client of this version raises: the download would fail, too
        return False
    return True


def _not_built(architecture: str, error: Exception) -> UserError:
    """Say that timm does not take a name or an argument."""
    return UserError(
        f"timm {timm.__version__} cannot build {architecture}: {error}",
        hint="see timm.list_models() for names, and the model's own arguments for --model-kwargs",
    )


def _not_downloaded(architecture: str, error: Exception) -> UserError:
    """Say that weights cannot be had."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        f"the pretrained weights of {architecture} cannot be downloaded: {reason}",
        hint="when offline, pass --init lite2 (EfficientNet-B3), a file of weights, a bundle's "
        "folder, or scratch",
    )
