"""What is remembered across threads: items in namespaces, kept, looked up, filtered and searched.

An item is a dictionary under a key in a namespace, and a namespace is a tuple of labels, like a path of folders::

    store.put(("users", "ada"), "likes", {"food": "cherries"})
    store.get(("users", "ada"), "likes").value                      # {"food": "cherries"}
    store.search(("users",), query="which food?", filter={"rating": {"$gte": 4}})

**One way in.** Every method makes one operation (`GetOp`, `PutOp`, `SearchOp`, `ListNamespacesOp`) and hands it to
`batch`; its async twin hands the same operation to `abatch`. A store of your own subclasses `BaseStore`, writes these
two, and has the rest. In a batch the reads come first and see none of its writes; of two writes to one key the last
one counts.

**Searching** looks at the items whose namespace starts with the prefix and whose value passes the filter. Without a
query they come in the order in which they were first put. With one they are ranked and never hidden: items with a
score first, best first, and after them, with `score=None`, those that the query says nothing about.

- With an `index`, the score is the cosine between the query's vector and the item's nearest one. An item has a vector
  for each text that its fields give: `"a.b"`, `"items[*].text"`, `"items[-1]"`, `"{title,body}"`, `"$"` for all of it.
- Without one, it is a matter of words. A word of the query counts fully where the item has it, half where a word of the
  item begins with it (three letters or more), and weighs log(1 + items looked at / items that have it), so that rare
  words tell more. The score is the share of the query's weight that was found: 1 when all its words are there.
  `index=False` keeps an item out of both kinds of search, and `index=["field"]` names what is looked at.

**Versions.** Each put gives the item another version, which it never had before. `put(..., if_version=item.version)`
writes only if nobody else has since the item was read, and with None only if there is no such item; otherwise
`ItemConflictError` says so. Whoever reads, decides and writes in a loop until that succeeds loses nothing to others who
do the same. If one such write of a batch is refused, none of the batch is done.

**Time to live** is counted in minutes from when an item was put, and anew from each read, unless `refresh_on_read` or
`refresh_ttl` says otherwise. An item whose time is over is gone for every operation, and its memory is given back.

What goes in and what comes out are copies: changing a value changes nothing that is stored. One lock holds the store
together; nothing is awaited, embedded or copied while it is held.
"""

from __future__ import annotations

from fanfold.errors import InvalidNamespaceError
from fanfold.memory.base import BaseStore
from fanfold.memory.inmemory import InMemoryStore, utc_now
from fanfold.memory.ops import (
    NOT_GIVEN,
    Clock,
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Namespace,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    Value,
)

__all__ = [
    "NOT_GIVEN",
    "BaseStore",
    "Clock",
    "GetOp",
    "InMemoryStore",
    "IndexConfig",
    "InvalidNamespaceError",
    "Item",
    "ListNamespacesOp",
    "MatchCondition",
    "Namespace",
    "Op",
    "PutOp",
    "Result",
    "SearchItem",
    "SearchOp",
    "TTLConfig",
    "Value",
    "utc_now",
]
