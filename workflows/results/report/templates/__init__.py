"""The template, the style sheet and the script of the report, and LaTeX tables."""
