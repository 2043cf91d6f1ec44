"""The command line: one file a subcommand, the options they share, and one place where errors become words."""
