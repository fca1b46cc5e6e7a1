"""The network, its weights, and how a model name becomes a verified directory."""
