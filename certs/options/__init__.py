"""The command line's grammar: commands, options and the help that goes with them. Nothing happens here."""
