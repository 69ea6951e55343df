"""The model card: what a bundle is, how good it was, on whom, and what it must not be used for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.metrics import Interval
from engines.mixed_precision.policy import Mixed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.models.bundle import ModelBundle
    from engines.models.input import ModelInput
    from train.evaluation.evaluate import Evaluation

__all__ = ["card_text", "trust_section", "with_trust_section"]

TRUST_HEADING = "## How far to trust it"

PROTOCOLS = {
    "subject": (
        "Split by subject: no person has cells on both sides, no image occurs on both sides. The "
        "figures are of people the model has not seen."
    ),
    "image": (
        "Split by image, as in arXiv 2508.06535: the same people have cells on both sides, so the "
        "figures say how well the model knows these people. They are not comparable with figures "
        "of a split by subject, and say little about new patients."
    ),
}
IMPORTED_PROTOCOL = (
    "The model was trained elsewhere, on people who are not named. Where some of the people below "
    "are among them, the figures are flattered."
)
NAMES = {
    "auc": "AUC",
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log loss, calibrated",
    "ece": "calibration error (ECE), calibrated",
    "ece_uncalibrated": "calibration error (ECE), uncalibrated",
    "subject_accuracy": "share called right, mean over subjects",
    "worst_subject_accuracy": "share called right, worst subject",
}
CHOSEN_BY_HELD_OUT = (
    "The held-out cells also chose the epoch, so these figures are somewhat optimistic."
)
CHOSEN = {
    "imported": "The cells below chose nothing but temperature and threshold.",
    "last": "The recipe says which weights are kept: the held-out cells chose no epoch.",
}


def card_text(bundle: ModelBundle, judged: Evaluation | None) -> str:
    """
    Return the card as Markdown; its first lines are the metadata that model hubs read.

    Args:
        bundle: What the card is of.
        judged: How good it is; None where no labelled cells were given.
    """
    figures = (_figures(bundle, judged), _subjects(judged)) if judged else ()
    licence = "other" if "imported_from" in bundle.data else "apache-2.0"
    parts = [
        f"---\nlibrary_name: timm\nlicense: {licence}\ntags: [image-classification, timm]\n---\n",
        f"# {bundle.architecture}: {' against '.join(bundle.display_names.values())}\n",
        "**For research only. Not a medical device; not for diagnosis, treatment or triage.**\n",
        _imported(bundle) if "imported_from" in bundle.data else _about(bundle),
        *([_adapted(bundle)] if "adapted" in bundle.data else []),
        *figures,
        *([trust_section(bundle)] if bundle.trust else []),
        *([_half(bundle)] if bundle.half else []),
        _limits(bundle),
        _use(bundle),
    ]
    return "\n".join(parts)


def _about(bundle: ModelBundle) -> str:
    """Say what the model is and how it came about."""
    data = bundle.data
    return (
        f"A classifier of single-cell crops, {bundle.input.width} x {bundle.input.height}, "
        f"trained by `slidescreen-train fit --recipe {data['recipe']}` from `{data['init']}`"
        f"{_changes(data)}.\n\n"
        f"- Data: {data['name'] or 'not stated'}\n"
        f"- Trained on {data['training_cells']} cells of {len(data['training_subjects'])} "
        f"subjects, {data['epochs']} epoch{'' if data['epochs'] == 1 else 's'}; "
        f"{_kept(data)} kept.\n"
        f"{_shown(bundle)}"
        f"- {_held_out(data)}{len(data['held_out_subjects'])} subjects.\n"
        f"- {_calls(bundle)}\n"
        "- Weights: Apache-2.0; filters and matrices in half precision.\n"
    )


def _imported(bundle: ModelBundle) -> str:
    """Say where a model that was trained elsewhere comes from."""
    data = bundle.data
    return (
        f"A classifier of single-cell crops, {bundle.input.width} x {bundle.input.height}, "
        f"trained elsewhere and imported from `{data['imported_from']}`.\n\n"
        f"- Data: {data['name'] or 'not stated'}\n"
        f"- Calibrated and judged on {len(data['held_out_subjects'])} subjects, said by whoever "
        "imported it to be unknown to it.\n"
        f"- {_calls(bundle)}\n"
        "- Weights: as they were; so is their licence.\n"
    )


def _adapted(bundle: ModelBundle) -> str:
    """Say what adapting the model to another centre changed, there and where it came from."""
    adapted = bundle.data["adapted"]
    here, home = adapted["here"], adapted["home"]
    rows = "\n".join(
        f"| {place} | {NAMES[name]} | "
        + " | ".join(str(Interval(*part[name])) for part in _parts(found))
        + " |"
        for place, found in (("the new centre", here), ("where it came from", home))
        for name in found["before"]
    )
    return (
        "## Adapted to another centre\n\n"
        f"By `slidescreen-train adapt`, from the bundle `{adapted['from']}`: same weights, another "
        f"{' and '.join(adapted['moved'])}, fitted to "
        f"{here['cells']} cells of {here['subjects']} subjects of the new centre. There, each "
        "subject is judged at the point that the others give. Where it came from, "
        f"{home['cells']} held-out cells of {home['subjects']} subjects are called at the new "
        "point: what adapting costs there. The sections below are of the new centre.\n\n"
        "| cells | figure | before | after | change |\n| --- | --- | --- | --- | --- |\n"
        f"{rows}\n"
    )


def _parts(found: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a comparison's columns."""
    return found["before"], found["after"], found["difference"]


def _calls(bundle: ModelBundle) -> str:
    """Say when which class is called."""
    if bundle.positive is None:
        return f"The likeliest class is called. Temperature {bundle.temperature:.3f}."
    return (
        f"`{bundle.positive}` is called at a probability of {bundle.threshold:.3f} or above: "
        f"{bundle.data['threshold_rule']}. Temperature {bundle.temperature:.3f}."
    )


def _shown(bundle: ModelBundle) -> str:
    """Say that the network was trained at another input than it has, if so."""
    then = bundle.data.get("trained_at")
    if then is None:
        return ""
    return (
        f"- Trained on {_part(then['crop_pct'])}, at {then['img_size']} x {then['img_size']}; "
        "shown its present input since, by `slidescreen-train calibrate`: same weights, and all "
        "figures below are of that input.\n"
    )


def _held_out(data: Mapping[str, Any]) -> str:
    """Name the part that was held out, unless other cells have judged since."""
    if "adapted" in data:
        return "Adapted to another centre, and judged there: "
    return "Held out: " if "trained_at" in data else f"Held out: fold {data['held_out_fold']}: "


def _part(crop_pct: float) -> str:
    """Say which part of a crop is shown."""
    return "the whole crop" if crop_pct == 1 else f"the middle {crop_pct:.3f} of the crop's sides"


def _changes(data: Mapping[str, Any]) -> str:
    """Say in what the training was not the recipe's own."""
    changed = ", ".join(f"{name} {value}" for name, value in data.get("changes", {}).items())
    behind = data.get("backgrounds")
    return (f", with {changed}" if changed else "") + (
        f"; smears of `{behind}` behind cells" if behind else ""
    )


def _kept(data: Mapping[str, Any]) -> str:
    """Say which weights."""
    averaged = data.get("averaged_epochs", 0)
    if averaged > 1 and data["criterion"] == "last":
        return f"the mean of the weights of the last {averaged}"
    return f"the weights of epoch {data['best_epoch']}"


def _figures(bundle: ModelBundle, judged: Evaluation) -> str:
    """Tabulate the figures with their protocol."""
    named = {
        NAMES.get(name, name.replace("f1_", "F1 of ")): f for name, f in judged.figures.items()
    }
    rows = "\n".join(f"| {name} | {figure} |" for name, figure in named.items())
    return (
        f"## Figures\n\n{PROTOCOLS.get(bundle.data.get('protocol', ''), IMPORTED_PROTOCOL)}\n\n"
        f"{judged.cells} held-out cells of {len(judged.subjects)} subjects, "
        f"{judged.faults} more did not decode; "
        "in brackets 95% intervals by bootstrap over subjects within each class.\n\n"
        f"| figure | value |\n| --- | --- |\n{rows}\n\n"
        f"{_chosen(bundle)} "
        "Temperature and threshold are judged without the subject they are applied to: each "
        "subject is scored at the operating point that the other held-out subjects give.\n\n"
        + " ".join(f"![{name}](plots/{name}.png)" for name in _plots(judged))
        + "\n"
    )


def _chosen(bundle: ModelBundle) -> str:
    """Say what else the cells decided that the figures are of."""
    criterion = "imported" if "adapted" in bundle.data else bundle.data.get("criterion", "")
    return CHOSEN.get(criterion, CHOSEN_BY_HELD_OUT)


def _plots(judged: Evaluation) -> tuple[str, ...]:
    """Name the plots that were drawn."""
    always = ("confusion", "subjects")
    return always if judged.scored.positive is None else ("roc", "reliability", *always)


def _subjects(judged: Evaluation) -> str:
    """Tabulate the subjects, worst first."""
    ordered = sorted(judged.subjects.items(), key=lambda row: row[1][2])
    rows = "\n".join(f"| {s} | {label} | {n} | {right:.3f} |" for s, (label, n, right) in ordered)
    return (
        "## By subject\n\n"
        "Share of cells called right, the worst first.\n\n"
        f"| subject | class | cells | called right |\n| --- | --- | --- | --- |\n{rows}\n"
    )


def trust_section(bundle: ModelBundle) -> str:
    """Say how far its sets, distances and corrected shares can be trusted, as measured."""
    found = bundle.data["trust"]
    rows = "\n".join(
        f"| {name} | {_percent(found['measured'][name])} | {found['guaranteed'][name]:.0%} |"
        for name in bundle.classes
    )
    aurocs = ", ".join(f"{kind} {value:.3f}" for kind, value in found["auroc"].items())
    return (
        f"{TRUST_HEADING}\n\n"
        f"From {found['held_out_cells']} held-out cells of {found['held_out_subjects']} subjects. "
        f"Prediction sets meant to hold the true class for {found['coverage']:.0%} of cells, each "
        "subject judged by sets that the other held-out subjects give, subjects counting the "
        f"same; beside it what is certain for a new subject of the same kind:\n\n"
        f"| class | held | guaranteed |\n| --- | --- | --- |\n{rows}\n\n"
        f"For {found['abstained']:.0%} of the held-out cells the set is not one class: the model "
        "abstains.\n\n"
        "Out of distribution: how often images lie farther from the training cells than held-out "
        f"cells do (AUROC): {aurocs}. These are easy cases; a cell of another centre or "
        "disease may be much more like the training cells, and be called without a sign.\n"
    )


def with_trust_section(card: str, bundle: ModelBundle) -> str:
    """Put the section into a card, in the place of an older one or before the limits."""
    before, found, after = card.partition(f"{TRUST_HEADING}\n")
    if found:
        after = after[after.find("\n## ") + 1 :]
    else:
        before, heading, after = card.partition("## Limits\n")
        after = heading + after
    return f"{before}{trust_section(bundle)}\n{after}"


def _percent(share: float | None) -> str:
    """Write a share, or that there was too little to tell."""
    return "too few subjects" if share is None else f"{share:.0%}"


def _half(bundle: ModelBundle) -> str:
    """Tabulate how far half precisions are from float32."""
    found = [Mixed.from_record(record) for record in bundle.half.values()]
    rows = "\n".join(
        f"| {mixed.precision} | {mixed.max_dp:.3f} | {mixed.flips} | "
        f"{', '.join(mixed.keep_fp32) or 'nothing'} |"
        for mixed in found
    )
    return (
        "## In half precision\n\n"
        f"Against float32 on {found[0].cells} held-out cells, convolutions in half but for the "
        "parts named. A run compares on its own cells, too, before it starts.\n\n"
        "| type | largest difference of a probability | labels flipped | in float32 |\n"
        f"| --- | --- | --- | --- |\n{rows}\n"
    )


def _limits(bundle: ModelBundle) -> str:
    """Say what the figures do not cover."""
    subjects = len(bundle.data["training_subjects"]) + len(bundle.data["held_out_subjects"])
    return (
        "## Limits\n\n"
        f"- {subjects} subjects in all: subjects differ far more than cells do, so the intervals "
        "are wide, and a single subject can be called almost wholly wrong.\n"
        "- One data set. Another microscope, camera, stain or way of segmenting is another "
        "matter: measure on your own labelled cells with `slidescreen-train evaluate` first.\n"
        f"- It knows {', '.join(bundle.classes)} and nothing else: any other cell, debris or an "
        "empty crop is still called one of these.\n"
        "- It calls cells, not people. A share of positive cells is not a diagnosis.\n"
    )


def _input(expected: ModelInput) -> str:
    """Say what of a crop the network sees, and at which size."""
    part = _part(expected.crop_pct) + (", cut out first," if expected.crop_pct < 1 else "")
    done = "squashed" if expected.fit == "squash" else "brought, its shape kept,"
    return (
        f"RGB, {part} {done} to {expected.width} x {expected.height} ({expected.filter}), "
        f"mean {list(expected.mean)}, std {list(expected.std)}"
    )


def _use(bundle: ModelBundle) -> str:
    """Show how to load it."""
    return (
        "## Use\n\n```console\n$ slidescreen run CELLS --out results --model BUNDLE\n```\n\n"
        "```python\nimport timm\n\nmodel = timm.create_model("
        '"local-dir:BUNDLE", pretrained=True).eval()\n```\n\n'
        f"Input: {_input(bundle.input)}.\n"
    )
