"""The starts of plugin files that `sphere new` writes, as text."""
