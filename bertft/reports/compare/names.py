"""Short names of lines: the method, and as much more as tells them apart.

lora r8                 svd_lora r8 sst2             lora r8 learning_rate=0.001
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bertft.reports.lines import ResultRow

__all__ = ["name_rows"]

# What follows the method in a name, where it differs, in this order.
_NAME_SETTINGS = ("method.rank", "model.name", "data.name")
_NAMED_SETTINGS = ("method.name", *_NAME_SETTINGS)


def name_rows(results: Sequence[ResultRow]) -> list[str]:
    """A name for each, all different."""
    names = [_short_name(line) for line in results]
    repeated_names = {name for name, count in Counter(names).items() if count > 1}
    for name in repeated_names:
        positions = [place for place, each in enumerate(names) if each == name]
        settings = [results[place].settings for place in positions]
        differing_settings = [
            key
            for key in settings[0]
            if key not in _NAMED_SETTINGS and len({each[key] for each in settings}) > 1
        ]
        for position, own_settings in zip(positions, settings, strict=True):
            words = [f"{key.rpartition('.')[2]}={own_settings[key]}" for key in differing_settings]
            names[position] = " ".join([name, *words])
    counts = Counter(names)  # settings of one last name in two groups, say
    return [
        name if counts[name] == 1 else f"{name} #{place}" for place, name in enumerate(names, 1)
    ]


def _short_name(result: ResultRow) -> str:
    settings = result.jobs[0].settings  # all of them, also what is the same in every line
    words = [settings["method.name"]]
    for key in _NAME_SETTINGS:
        value = settings.get(key, "")
        if value not in ("", "null"):
            words.append(f"r{value}" if key == "method.rank" else value)
    return " ".join(words)
