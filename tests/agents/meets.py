"""A program that asks a model server, by hand, and so can be seen to be in flight there with others."""

from __future__ import annotations

import json
import sys
import urllib.request


def meet(url: str, name: str) -> str:
    """What the server answers the agent of that name, once it lets its call pass."""
    said = json.dumps({"model": "any", "messages": [{"role": "user", "content": "Are you all there?"}]})
    headers = {"content-type": "application/json", "x-fanfold-agent": name, "authorization": "Bearer none"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", said.encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        return str(json.load(answer)["choices"][0]["message"]["content"])


if __name__ == "__main__":
    print(meet(*sys.argv[1:]))
