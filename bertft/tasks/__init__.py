"""Tasks: one module or package each, registered by name (``bertft.config.registry.TASKS``)."""
