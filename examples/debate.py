"""A debate, and what is done with it: its graph gets one more node, which writes down what is to be looked into.

::

    ... ─▶ synthesizer ⇄ validator ─▶ verdict ─▶ agenda ─▶ END

Both sides quote this folder. By rehearsal, as here, nobody argues: quotes are found by searching, and the decision is
what the agents' files say where nothing decides. Give `model="anthropic:NAME"` for a real one.
"""

from pathlib import Path
from typing import Any

from fanfold import END, Debate, audit

debate = Debate(
    "Should each example have a test of its own?",
    sources=Path(__file__).parent,
    advocates=1,
    challengers=1,
    stop="unanimity | calls=12",
)


def agenda(state: dict[str, Any]) -> None:
    """What the debate has left open, most urgent first."""
    for item in sorted(state["verdict"]["research_queue"], key=lambda item: item["priority"])[:3]:
        print(f"to look into ({item['kind']}): {item['question']}")


graph = debate.graph.add_node("agenda", agenda).add_edge("verdict", "agenda").add_edge("agenda", END)
app = graph.compile()

if __name__ == "__main__":
    done = app.invoke(debate.motion, model="rehearsal")
    print(done["verdict"]["decision"])
    for record in done["transcript"]["records"]:
        for claim in (record["said"] or {}).get("said", {}).get("claims", []):
            for piece in claim["evidence"]:
                print("found" if piece["verified"] else "NOT FOUND", f"in {piece['source']}: {piece['quote']}")
    print(audit(done))
