"""Jobs in, results out: the only room that knows of Redis."""
