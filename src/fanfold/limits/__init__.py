"""How much at once, and how much in all.

`Limits` is what a user asks for, and `Governor` holds a run to it, with everything inside of the run. A limit that
cannot be seen to bind cannot be trusted, so each one remembers how close the run came to it, who waited for it, and for
how long.
"""

from fanfold.limits.desk import Ask as Ask
from fanfold.limits.desk import Desk as Desk
from fanfold.limits.desk import lent as lent
from fanfold.limits.governor import Governor as Governor
from fanfold.limits.shared import Shared as Shared
from fanfold.limits.slots import Pair as Pair
from fanfold.limits.slots import Slots as Slots
from fanfold.limits.slots import no_kind as no_kind
from fanfold.limits.spent import spent as spent
from fanfold.limits.values import Limits as Limits
from fanfold.limits.values import Report as Report
from fanfold.limits.values import least as least
