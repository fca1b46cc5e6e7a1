"""Errors of the worker itself, not of a job."""


class DeviceLost(Exception):
    """The device answers no more. This process cannot mend it: it gives its jobs back and ends."""
