"""MCP: a server over a store, and the read-only door that its `query` tool goes through.

Imported only by the command `fanfold mcp`; the server needs the extra `mcp`, the door does not.
"""
