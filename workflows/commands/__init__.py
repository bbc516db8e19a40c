"""The subcommands of `sphere`, one module each."""
