"""HTML pages: templates, their style sheet, and the values that fill them."""
