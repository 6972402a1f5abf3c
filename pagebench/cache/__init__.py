"""Why: the timed code's own accesses, through simulated caches, set beside what was measured."""
