"""The settings of bertft's own method components, one dataclass per module.

The first line of a dataclass's docstring is its line in ``bertft train --help all``;
``bertft.config.builtin_components`` registers each dataclass under its name.
"""
