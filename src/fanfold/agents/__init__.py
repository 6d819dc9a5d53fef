"""Agents: definitions, tools, backends, and `Task`, which runs one."""
