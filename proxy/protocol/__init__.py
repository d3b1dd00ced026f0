"""What the stages know of the conversations that they carry, beyond `wire`: whose turn it is, what may come. No I/O."""
