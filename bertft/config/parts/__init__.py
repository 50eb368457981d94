"""The settings of bertft's own method components, one dataclass ``Settings`` per module.

``bertft.config.built_in`` registers each under its name.
"""
