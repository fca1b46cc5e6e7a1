"""Looks at the machine and at all that a worker stands on, and says what is wrong with each."""
