"""Readers of file formats: one module per format, each registered with its file extensions."""
