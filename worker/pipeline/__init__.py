"""Threads and queues, and what is let into them; nothing of audio or tensors."""
