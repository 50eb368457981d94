"""Short names of lines: the method, and as much more as tells them apart.

lora r8                 svd_lora r8 sst2             lora r8 learning_rate=0.001
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bertft.reports.lines import Line

__all__ = ["names_of"]

# What follows the method in a name, where it differs, in this order.
_OWN = ("method.rank", "model.name", "data.name")
_SAID = ("method.name", *_OWN)


def names_of(lines: Sequence[Line]) -> list[str]:
    """A name for each, all different."""
    names = [_short(line) for line in lines]
    alike = {name for name, count in Counter(names).items() if count > 1}
    for name in alike:
        places = [place for place, each in enumerate(names) if each == name]
        settings = [lines[place].settings for place in places]
        apart = [
            key
            for key in settings[0]
            if key not in _SAID and len({each[key] for each in settings}) > 1
        ]
        for place, each in zip(places, settings, strict=True):
            words = [f"{key.rpartition('.')[2]}={each[key]}" for key in apart]
            names[place] = " ".join([name, *words])
    counts = Counter(names)  # settings of one last name in two groups, say
    return [
        name if counts[name] == 1 else f"{name} #{place}" for place, name in enumerate(names, 1)
    ]


def _short(line: Line) -> str:
    settings = line.jobs[0].settings  # all of them, also what is the same in every line
    words = [settings["method.name"]]
    for key in _OWN:
        value = settings.get(key, "")
        if value not in ("", "null"):
            words.append(f"r{value}" if key == "method.rank" else value)
    return " ".join(words)
