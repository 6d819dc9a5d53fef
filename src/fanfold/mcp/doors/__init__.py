"""The walls of the read-only door, one module a database."""
