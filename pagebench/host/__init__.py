"""What the machine and the running kernel say of themselves; no compiled core is needed to ask."""
