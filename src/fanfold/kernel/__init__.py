"""The pure rules: what may run, and what the state is. Nothing in here waits."""
