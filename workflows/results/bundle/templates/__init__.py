"""The texts of a bundle that jinja2 fills in."""
