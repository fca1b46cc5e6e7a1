"""The live view for a terminal: lanes, workers, rates, and what failed lately."""
