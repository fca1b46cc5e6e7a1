"""The web console: recordings sent and shown in a browser, and what the workers are doing.

It decodes nothing and keeps nothing: what a page shows is in Redis and in the stores.
"""
