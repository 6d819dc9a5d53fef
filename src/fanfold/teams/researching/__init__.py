"""The parts of the research team that need no agent and no graph: who is asked, what was found, measured and told."""
