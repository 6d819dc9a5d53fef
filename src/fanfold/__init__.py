"""Fan out the agents, fold in the results, and prove that they really ran side by side."""
