"""Draws report items with matplotlib, without pyplot: inline SVG and PNG files."""
