"""`python -m worker`."""

import os

# Before torch is loaded: by default its threads spin while they wait, on cores that the decode
# processes need. Measured with one of two cores busy: 2.5 times the clips a second.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# oneDNN writes a program for each shape and keeps the last 1,024 of them, up to 1 MB each; tapes
# come in hundreds of lengths. One tape needs some fifty, most of them the same for all lengths.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")

from worker.cli import app

app(prog_name="python -m worker")
