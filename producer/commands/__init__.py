"""The producers' commands, each a screenful."""
