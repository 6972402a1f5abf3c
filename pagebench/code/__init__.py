"""Machine code: what was timed, disassembled, and the form of its tail test."""
