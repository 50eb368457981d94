"""The command line: ``app`` dispatches a command, ``commands`` has one module per command."""

from bertft.cli.app import main

__all__ = ["main"]
