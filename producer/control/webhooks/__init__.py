"""Ends of jobs told to their callbacks: signed, to where they may go, until they arrive."""
