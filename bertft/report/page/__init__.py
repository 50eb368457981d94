"""The page that a report is: a template, its style, and what fills them."""
