"""What a program says of itself over HTTP: its metrics, and whether it lives and is ready."""
