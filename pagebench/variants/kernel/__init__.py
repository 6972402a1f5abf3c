"""The compound_head() of kernel trees: examined, compiled, linked, their static keys switched."""
