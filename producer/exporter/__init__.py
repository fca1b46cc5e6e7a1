"""The queue's metrics, from a process that is always on: workers come and go."""
