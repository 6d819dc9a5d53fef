"""Prompts that people choose in their client: what to ask of this server, in words that work."""

from __future__ import annotations

from typing import Any

from mcp.server import MCPServer


def add_prompts(server: MCPServer[Any], *, write: bool) -> None:
    """Give the server its prompts; those that begin runs only to a server that may."""

    @server.prompt(title="Explain a run")
    def explain_run(run_id: str) -> str:
        """What a run did, what it came to, and whether it was as parallel as it could have been."""
        return (
            f"Look at run {run_id} with run_get, and read run://{run_id}/audit. Say in a few sentences what it did,"
            " what it came to, how parallel it was, and which single change would have made it faster. Rely only on"
            " what the tools return, and say what cannot be seen there."
        )

    @server.prompt(title="Recall")
    def recall(question: str, namespace: str = "") -> str:
        """What long-term memory knows about a question; a namespace is written as labels with slashes between them."""
        below = [label for label in namespace.split("/") if label]
        return (
            f"Answer from long-term memory: {question}\nUse memory_search below the namespace {below}. Quote the items"
            " that you rely on with namespace, key and version, and say so when they do not answer it."
        )

    if not write:
        return

    @server.prompt(title="Debate a question")
    def hold_debate(question: str) -> str:
        """Let two teams argue a question with evidence, and report what they decided."""
        return (
            f"Start a debate about this question with the tool debate: {question}\nFollow it with run_follow until it"
            " has ended, then read it with run_get. Report the verdict, the strongest reason on each side with its"
            " quote, what stays open, and what it cost."
        )

    @server.prompt(title="Ask several agents")
    def ask_several(question: str) -> str:
        """Ask those agents that can say something about a question, at the same time."""
        return (
            f"Read agents://all. Choose the agents that can say something about this: {question}\nAsk all of them with"
            " the tool task in one message, so that they work at the same time. Then say what they agree on, what they"
            " do not, and which of it they have shown with quotes."
        )
