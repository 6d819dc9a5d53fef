"""The parts of a debate that need no agent and no graph: what is said, checked, exchanged, counted, stopped, judged."""
