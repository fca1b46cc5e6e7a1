"""`python -m worker bench`: what this machine can do, measured without the reference."""
