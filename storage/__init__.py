"""What producer and worker share: the wire contract, the Redis protocol, the object stores."""

VERSION = "0.1.0"  # of all of it, as in pyproject.toml: where it is installed, that is not
