"""The pages of ``bertft --help`` and ``bertft <command> --help``, generated from the schema."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bertft
from bertft.config.command_configs import COMMAND_CONFIGS
from bertft.config.positional import format_usage
from bertft.config.presets import find_presets, preset_groups, preset_summary
from bertft.config.schema import Leaf, iter_nodes, settings_tree
from bertft.config.values import format_bounds

__all__ = ["command_page", "main_page"]

_WIDTH = 100
_SWEEP_OPTIONS = """\
  -m, --multirun            one run per combination of values: method=lora,svd_lora seed=0,1,2
"""
_OPTIONS = """\
  --config-dir <folder>     your own presets, in subfolders named like the groups
  --cfg job                 print the configuration and exit; --resolve also resolves ${...}
  --info                    print the sources of the configuration and exit
  --help                    print this page"""


def main_page() -> str:
    """``bertft --help``."""
    lines = [
        f"bertft {bertft.__version__}: fine-tune BERT-family encoders from one command.",
        "",
        "  bertft <command> [setting=value ...]",
        "",
    ]
    for name, cls in COMMAND_CONFIGS.items():
        lines.append(f"  {name:<10}{(cls.__doc__ or '').strip()}")
    lines += [
        "",
        "Examples",
        "  bertft train",
        "  bertft train reviews.csv method=svd_lora",
        "  bertft train -m method=lora,svd_lora method.rank=2,8 seed=0,1,2",
        "",
        "Settings of a command: bertft <command> --help",
        'Completion in bash:    eval "$(bertft -sc install=bash)"',
    ]
    return "\n".join(lines)


def command_page(command: str, config_dir: Path | None = None) -> str:
    """``bertft <command> --help``: usage, presets, and every setting with type and default."""
    root = settings_tree(command)
    options = f"{_SWEEP_OPTIONS}{_OPTIONS}" if command == "train" else _OPTIONS
    lines = [
        f"bertft {command}: {root.help}",
        "",
        f"  {format_usage(command)}",
        "",
        options,
    ]
    groups = [group for group in preset_groups() if group in root.children]
    if groups:
        lines += ["", "PRESETS"]
    for group in groups:
        lines.append(f"  {group}=")
        for name, file in find_presets(group, config_dir).items():
            lines += _wrap(f"    {name:<20}", preset_summary(file))
    lines += ["", "SETTINGS"]
    for node in iter_nodes(root):
        leaf_settings = [child for child in node.children.values() if isinstance(child, Leaf)]
        title = node.path or command
        note = (
            " (null unless a preset or one of these settings selects it)" if node.optional else ""
        )
        if leaf_settings:
            lines += ["", *_wrap("  ", f"{title}: {node.help.rstrip('.')}{note}")]
        for leaf in leaf_settings:
            lines += _format_setting(leaf)
    return "\n".join(lines)


def _format_setting(leaf: Leaf) -> Iterator[str]:
    yield from _wrap("    ", f"{leaf.path}  {_format_type(leaf)}  = {_format_default(leaf)}")
    limits = format_bounds(leaf)
    yield from _wrap("        ", f"{leaf.help} ({limits})" if limits else leaf.help)


def _format_type(leaf: Leaf) -> str:
    if leaf.type is Any:
        return "value"
    kind = " | ".join(leaf.choices) if leaf.choices else leaf.type.__name__
    return f"{kind} | null" if leaf.optional else kind


def _format_default(leaf: Leaf) -> str:
    if leaf.required:
        return "(required)" if "." not in leaf.path else "(from the preset)"
    if isinstance(leaf.default, bool):
        return str(leaf.default).lower()
    if isinstance(leaf.default, list):
        return f"[{','.join(str(item) for item in leaf.default)}]"
    return "null" if leaf.default is None else str(leaf.default)


def _wrap(head: str, text: str) -> list[str]:
    lines = textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * max(len(head), 8),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [head.rstrip()]
