"""Results of many jobs as one file, read a part at a time."""
