"""What the commands of the worker begin with, and those of them that are more than a call."""
