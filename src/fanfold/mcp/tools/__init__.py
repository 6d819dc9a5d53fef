"""What each tool of the server does. Their docstrings are what a client's model reads."""
