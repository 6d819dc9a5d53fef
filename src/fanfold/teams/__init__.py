"""Teams of agents, built from public names only."""
