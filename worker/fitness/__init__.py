"""Whether this machine and its stores are fit for work, and so whose fault a fault is."""
