"""The stages: plain callables that know nothing of threads, queues or Redis."""
