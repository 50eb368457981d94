"""Exhibits → matplotlib figures, and those → PNG files and inline SVG. No pyplot anywhere."""
