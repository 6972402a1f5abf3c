"""What is compared: what can be asked for, and the groups of cells that answer it."""
