"""What a worker says of itself: metrics, health, logs; and the memory it gives back."""
