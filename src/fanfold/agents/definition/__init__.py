"""What an agent file says, and which definition a name means.

An agent file is Markdown: a front matter between two `---` lines, and a body that is the agent's system prompt. The
format is Claude Code's own, with a few keys of ours, so that existing collections work as they are.

**Reading.** The front matter is read as YAML, but only as the part of YAML that is plain data (`plain`): text,
numbers, true and false, null, lists and mappings (YAML 1.2, so `no` is a word). Tags, aliases and very deep nesting are
refused, which leaves nothing that could run code or grow without end. Public collections hold many files whose front
matter is no YAML at all, nearly always because a description has a colon in it (`description: Use this agent when:
...`). Only when YAML refuses a file, it is cut at its key lines and each piece is read alone (`pieces`): as YAML if it
is that, otherwise as the text that stands there. That is said in `notices`, and it is never done to a key that holds
more than text.

**Judging.** `keys` says what each key may hold. A wrong value of a key that decides what the agent may do, or what it
may cost, makes the file unusable: nobody can know what was meant, and the rest would run with other powers than its
author gave it. A wrong value of any other key (a colour, an effort) is left out, and said in `notices`.

**Finding.** Nearest first, and the first that has the name is meant (`catalogue`)::

    objects registered on the run
    .claude/agents/**/*.md          of the working directory, then of each folder above it
    ~/.claude/agents/**/*.md
    packaged                        the agents that come with fanfold

Names are compared without case and separators: `Sydney Research` is `sydney-research`. There is no fallback: a broken
file keeps its name from meaning a farther definition, and asking for it says what is wrong with it.
"""

from fanfold.agents.definition.agent import BACKENDS, AgentDefinition, folded
from fanfold.agents.definition.catalogue import PACKAGED, Catalogue, agents_in
from fanfold.agents.definition.files import Problem
from fanfold.agents.definition.keys import KEYS
from fanfold.agents.definition.parsing import parse

__all__ = ["BACKENDS", "KEYS", "PACKAGED", "AgentDefinition", "Catalogue", "Problem", "agents_in", "folded", "parse"]
