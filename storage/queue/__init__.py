"""The delivery protocol on Redis streams, each step one Lua script."""
