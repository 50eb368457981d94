"""Commands, settings, types, defaults and presets are a promise: a change is made on purpose.

To accept one: python tests/config/test_surface.py > tests/config/surface.txt
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertft.config.command_configs import COMMAND_CONFIGS, TRAINING_COMMANDS
from bertft.config.presets import find_presets, preset_groups
from bertft.config.schema import iter_leaves, settings_tree

STORED = Path(__file__).parent / "surface.txt"


def surface() -> Iterator[str]:
    for group in preset_groups():
        yield f"{group}= {' '.join(find_presets(group))}"
    of_train = {leaf.path for leaf in iter_leaves(settings_tree("train"))}
    for command in COMMAND_CONFIGS:
        for leaf in iter_leaves(settings_tree(command)):
            if command != "train" and leaf.path in of_train and command in TRAINING_COMMANDS:
                continue  # the same as in train, because its class is a subclass
            kind = "any" if leaf.type is Any else leaf.type.__name__
            kind += " or null" if leaf.optional and leaf.type is not Any else ""
            choices = f" in {'|'.join(leaf.choices)}" if leaf.choices else ""
            bounds = "".join(f" {name} {bound:g}" for name, bound in leaf.bounds.items())
            yield f"{command} {leaf.path}: {kind}{choices}{bounds} = {leaf.default!r}"


def test_the_surface_is_the_promised_one():
    promised = STORED.read_text(encoding="utf-8").splitlines()
    present = list(surface())
    assert [line for line in promised if line not in present] == [], "taken away"
    assert [line for line in present if line not in promised] == [], "added"
    assert present == promised


if __name__ == "__main__":
    print("\n".join(surface()))
