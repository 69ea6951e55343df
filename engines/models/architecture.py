"""
What a bundle may have built of timm: a registered network, with known arguments in bounds.

A bundle may come from anywhere. timm would load weights, code or settings from elsewhere for names
such as ``hf-hub:...`` and for arguments such as ``checkpoint_path``, and would set aside whatever
memory an argument asks for. So names and arguments are held against lists before timm sees them.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["refusal"]

NAME = re.compile(r"[A-Za-z0-9_]{1,100}(\.[A-Za-z0-9_]{1,100})?")  # with a tag, or without
WORD = re.compile(r"[A-Za-z0-9_.]{0,64}")
MOST = 8192  # a size, a depth or a width
MOST_VALUES = 64  # of an argument that is a list
# fmt: off
ARGUMENTS = frozenset(
    {
        "act_layer", "aa_layer", "attn_drop_rate", "base_width", "bn_eps", "bn_momentum",
        "cardinality", "class_token", "conv_mlp", "depth", "depths", "dims", "down_kernel_size",
        "downsample_norm", "drop_block_rate", "drop_path_rate", "drop_rate", "dynamic_img_pad",
        "dynamic_img_size", "embed_dim", "fc_norm", "final_norm", "fix_group_size", "fix_stem",
        "global_pool", "head_bias", "head_hidden_size", "head_norm_first", "img_size",
        "init_values", "kernel_sizes", "ls_init_value", "mlp_ratio", "no_embed_class",
        "norm_eps", "norm_layer", "norm_momentum", "num_features", "num_heads", "output_stride",
        "pad_type", "patch_drop_rate", "patch_size", "pool_include_prefix", "pos_drop_rate",
        "pos_embed", "pre_norm", "proj_drop_rate", "qk_norm", "qkv_bias", "reduce_first",
        "reg_tokens", "round_limit", "scale_mlp_norm", "se_from_exp", "stem_size", "stem_type",
        "stem_width", "strict_img_size", "swiglu_mlp", "use_abs_pos", "use_fc_norm",
        "use_rel_pos", "window_ratio", "window_size",
    }
)
# fmt: on


def refusal(architecture: str, arguments: Mapping[str, Any]) -> str:
    """
    Say why a network may not be asked of timm; empty if it may. timm itself is not asked.

    Args:
        architecture: timm's name of a registered network; a tag behind a dot changes nothing.
        arguments: Of ``timm.create_model``.
    """
    if not NAME.fullmatch(architecture):
        return f"{architecture!r} is not the name of one of timm's registered networks"
    for name, value in arguments.items():
        if name not in ARGUMENTS:
            return f"the model argument {name!r} is not one that a bundle may set"
        if not _harmless(value):
            return f"the model argument {name!r} is {value!r}, which is no number or name in bounds"
    return ""


def _harmless(value: Any) -> bool:
    """Whether an argument is nothing, a truth value, a number in bounds, a name, or a few such."""
    if isinstance(value, list | tuple):
        return len(value) <= MOST_VALUES and all(map(_harmless_one, value))
    return _harmless_one(value)


def _harmless_one(value: Any) -> bool:
    """Whether a value that is no list is harmless."""
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) <= MOST
    return value is None or (isinstance(value, str) and WORD.fullmatch(value) is not None)
