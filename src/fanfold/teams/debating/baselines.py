from __future__ import annotations

from fanfold.teams.debating.objects import Form


class Baselines(Form):
    x: int = 0

    def lines(self):
        return ["stub"]
