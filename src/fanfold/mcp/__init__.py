"""An MCP server over a store: what agents of other programs may see of it and do in it.

::

    server   which tools, resources and prompts there are
    tools/   what each of them does
    work     the runs that this server has at work; each outlives the call that began it
    offer    what the operator lets clients have: the store, graphs, a folder, models, limits
    http     who may speak to it over HTTP
    standard serving over standard input and output
    configs  what programs have to be told to use it
    door     the way for queries into the database, and doors/ its walls, one module a database
    roles    the role that they are asked as in PostgreSQL
    attacks  what was tried to get through the walls, as data; check tries all of it, and the server besides

Whoever can call its tools is not trusted with more than the operator said: nothing is written without `--allow-write`,
only the graphs that were named can be run, agents see one folder, and what all clients spend comes from one budget.
"""
