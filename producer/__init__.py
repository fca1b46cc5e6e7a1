"""The producers' side: submit, wait, inspect."""
