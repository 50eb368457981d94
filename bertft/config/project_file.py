"""The YAML file that ``bertft init`` writes: the settings that are used most, with comments."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from bertft.config.presets import default_presets, find_presets, preset_summary
from bertft.config.schema import Leaf, find_setting, settings_tree
from bertft.config.values import format_bounds

__all__ = ["project_text"]

_WIDTH = 96
_EXAMPLE_DATA = ("data:", "  train: reviews.csv", "  text: review", "  label: stars")
# Group → its settings in the file.
_SETTINGS = {
    "data": ("train", "validation", "test", "task", "text", "label", "max_length", "metric"),
    "trainer": (
        "epochs",
        "batch_size",
        "learning_rate",
        "patience",
        "precision",
        "evaluate_every",
    ),
    "loss": ("class_weights", "label_smoothing"),
}
# Optional settings: remove the "# " to use them.
_OPTIONAL = {
    "method": ("# method.rank: 16", "the rank of low-rank methods"),
    "model": ("# model.path: FacebookAI/roberta-large", "any other encoder: a Hub id or a folder"),
    "hydra": ("# hydra.run.dir: outputs/my_run", "the run folder"),
}


def project_text(name: str, data: Mapping[str, Any]) -> str:
    """The content of the file ``name``.

    Args:
        name: the path of the file, for the command in its first line.
        data: settings of ``data`` to write, such as train, text and label. Without ``train``, the
            file selects the bundled sample.
    """
    command = shlex.join(["bertft", "train", f"config={name}"])
    lines = [
        f"# Settings of bertft. To train with them: {command}",
        "# Settings on the command line override this file: ... trainer.epochs=5 seed=1",
        "# Every setting: bertft train --help all",
    ]
    for group, title in (
        ("method", "Fine-tuning method"),
        ("model", "Pretrained encoder"),
    ):
        lines += ["", f"# {title}, one of"]
        for preset, file in find_presets(group).items():
            lines += _comment(f"{preset:<18}{preset_summary(file)}", indent=2, hanging=18)
        lines += [f"{group}: {default_presets()[group]}", _optional(group)]
    lines += ["", "# Rows to train on"]
    if "train" in data:
        lines += ["data:", *_group_lines("data", data)]
    else:
        lines += [
            *_comment(
                "A bundled data set. For your own file, run bertft init <file>, or replace the"
                " line below by"
            ),
            *(f"#   {line}" for line in _EXAMPLE_DATA),
            f"data: {default_presets()['data']}",
        ]
    for group, title in (("trainer", "Optimization"), ("loss", "Loss of classification")):
        lines += ["", f"# {title}", f"{group}:", *_group_lines(group, {})]
    lines += ["", *_setting_lines("seed", "seed", {}, ""), "", _optional("hydra")]
    return "\n".join(lines) + "\n"


def _optional(group: str) -> str:
    line, comment = _OPTIONAL[group]
    return f"{line} # {comment}"


def _group_lines(group: str, values: Mapping[str, Any]) -> list[str]:
    extra = [name for name in values if name not in _SETTINGS[group]]
    return [
        line
        for name in (*_SETTINGS[group], *extra)
        for line in _setting_lines(f"{group}.{name}", name, values, "  ")
    ]


def _setting_lines(path: str, name: str, values: Mapping[str, Any], indent: str) -> Iterator[str]:
    leaf, _ = find_setting(settings_tree("train"), path)
    assert isinstance(leaf, Leaf)
    limits = format_bounds(leaf)
    choices = f" One of: {', '.join(leaf.choices)}." if leaf.choices else ""
    help = f"{leaf.help}{choices}{f' ({limits})' if limits else ''}"
    yield from (f"{indent}{line}" for line in _comment(help))
    yield f"{indent}{name}: {_to_yaml(values.get(name, leaf.default))}"


def _comment(text: str, indent: int = 0, hanging: int = 0) -> list[str]:
    margin = f"# {' ' * indent}"
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=margin,
        subsequent_indent=margin + " " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _to_yaml(value: Any) -> str:
    """``value`` on one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")
