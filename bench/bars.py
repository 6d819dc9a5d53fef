"""The bars that need other engines, behind those that do not: one table, of which each line is a claim."""

from __future__ import annotations

from fanfold.bench.bars import Bar, Sizes, faster, floor_bars, plain, times


def bars(sizes: Sizes) -> tuple[Bar, ...]:
    """All of them."""
    return (*floor_bars(sizes), *_tasks(sizes), *_durable(sizes))


def _tasks(sizes: Sizes) -> tuple[Bar, ...]:
    fan, many, tenth = sizes.fan, sizes.growing[2], sizes.fan // 10
    return (
        *(
            Bar(f"{title} of {n:,}: against LangGraph", faster(name, n), bar, stretch, more=True)
            for name, title in (("fanout", "fan-out"), ("send", "Send"))
            for n, bar, stretch in ((fan, 25, 40), (many, 80, 120))
        ),
        Bar(f"loop of {sizes.steps:,} steps: against LangGraph", faster("loop", sizes.steps), 15, 50, more=True),
        Bar(f"chain of {fan:,} nodes: against LangGraph", faster("chain", fan), 12, 20, more=True),
        Bar(f"fan-out to {tenth} sub-graphs: against LangGraph", faster("subgraphs", tenth), 12, 25, more=True),
        Bar(
            f"blocking invoke, fan-out of {tenth} blocking nodes: against LangGraph",
            faster("fanout_blocking", tenth),
            10,
            20,
            more=True,
        ),
    )


def _durable(sizes: Sizes) -> tuple[Bar, ...]:
    kept, tenth = sizes.kept, sizes.fan // 10
    return (
        *(
            Bar(
                f"durable loop of {kept:,}, async, {title}: against LangGraph",
                faster(f"{database}_async", kept),
                15,
                40,
                more=True,
            )
            for database, title in (("sqlite", "SQLite"), ("postgres", "PostgreSQL"))
        ),
        Bar(
            f"durable loop of {kept:,}, sync, PostgreSQL, a step: over a bare commit",
            times("postgres_sync", kept),
            1.5,
            1.25,
        ),
        Bar(
            "32 durable loops at once, sync, PostgreSQL: steps/s against LangGraph",
            faster("postgres_32", kept // 10),
            17,
            45,
            more=True,
        ),
        *(
            Bar(
                f"durable fan-out of {tenth}, {title}, an acknowledged result",
                plain(f"{database}_fanout", tenth),
                40,
                17,
                "us",
            )
            for database, title in (("sqlite", "SQLite"), ("postgres", "PostgreSQL"))
        ),
        Bar(
            "results of 64 agents, acknowledged, PostgreSQL, busy cores: our store against LangGraph's saver",
            faster("results_64_busy", sizes.results),
            20,
            40,
            more=True,
        ),
        Bar(
            "how long half of them wait at most: LangGraph's saver over our store",
            faster("results_64_busy", sizes.results, name="p50"),
            20,
            40,
            more=True,
        ),
    )
