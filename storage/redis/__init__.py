"""How a server is reached, whatever kind of Redis it is."""
