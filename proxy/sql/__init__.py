"""SQL as a source would read it, as far as it takes to say what a replica or a backup asks. No I/O."""
