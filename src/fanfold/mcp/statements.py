"""The SQL of this package, by name: it is kept in `.sql` files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files


@cache
def statements(file: str) -> Mapping[str, str]:
    """The statements of `sql/<file>.sql`, by name, without what is said about them."""
    text = files("fanfold.mcp").joinpath(f"sql/{file}.sql").read_text(encoding="utf-8")
    _, *parts = re.split(r"^-- name: (\w+)\n(?:--.*\n)*", text, flags=re.MULTILINE)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def views(dialect: str, schema: str) -> Mapping[str, str]:
    """The bodies of the views over a store whose tables are in `schema`, which is quoted already."""
    words = {
        "postgres": {
            "bytes_of_data": "convert_to(data, 'UTF8')",
            "labels": "trim(both '.' from namespace)",
            "now": "extract(epoch from clock_timestamp())",
        },
        "sqlite": {
            "bytes_of_data": "cast(data as blob)",
            "labels": "trim(namespace, '.')",
            "now": "(julianday('now') - 2440587.5) * 86400.0",
        },
    }[dialect]
    return {name: body.format(schema=schema, **words) for name, body in statements("views").items()}
