"""What producer and worker share: the wire contract, the Redis protocol, the object stores."""
