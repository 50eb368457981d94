"""The settings of bertft's own method components, one dataclass ``Settings`` per module.

``bertft.config.builtin_components`` registers each under its name.
"""
