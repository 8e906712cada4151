"""The subcommands of `millstream`, one file each."""
