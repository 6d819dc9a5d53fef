"""Where the code of a node runs."""
