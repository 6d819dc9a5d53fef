"""What fanfold costs, measured beside bare asyncio, and beside whichever other engines somebody brings along.

A machine is never fast or slow by itself: other programs share it, and it is another one than yours. So nothing here is
said in seconds alone. The same work is done by several engines, each in a process of its own, and they take turns:

    round 1:   floor   fanfold   ...        a process each, which warms up, measures, and prints what it found
    round 2:   floor   fanfold   ...
    ...                                     medians over the rounds, and then a ratio, which is what a bar is for

The rooms, from below:

- `shapes` are the graphs, written once for every engine that has LangGraph's names;
- `floor` is the same work with nothing but asyncio, or nothing but a database;
- `engine` is the same work done by fanfold;
- `timing` measures one of them in this process, and `python -m fanfold.bench WORKLOAD ENGINE N` is such a process;
- `rounds` starts those processes, takes the medians, and keeps them in a `Table`;
- `bars` says which ratios we want, and how far away they are.

`fanfold bench` shows what needs no other engine. The repository's `make bench` brings the others along.
"""
