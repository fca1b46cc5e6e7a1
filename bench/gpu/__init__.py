"""What a GPU does: whether it is right, how fast it is, and where the time goes."""
