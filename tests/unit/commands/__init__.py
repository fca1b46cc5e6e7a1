"""What the worker's commands begin with."""
