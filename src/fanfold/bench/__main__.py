"""`python -m fanfold.bench WORKLOAD ENGINE N SECONDS`: one measurement, printed as JSON."""

from __future__ import annotations

import sys

from fanfold.bench.alone import main

sys.exit(main(sys.argv[1:]))
