"""The live view for a terminal: `look` asks Redis, `screen` shows it, `tell` says it as JSON."""
