"""`python -m worker`."""

import os

# Before torch is loaded: by default its threads spin while they wait, on cores that the decode
# processes need. Measured with one of two cores busy: 2.5 times the clips a second.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from worker.cli import app

app(prog_name="python -m worker")
