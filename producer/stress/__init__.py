"""A load with a schedule of its own, and what the service makes of it: `python -m producer stress`.

`schedule` and `clips` draw what is sent and when; `alone` learns what each clip gives by itself;
`feed`, `sender`, `watcher` and `sampler` are a run; `checks` and `figures` make a `report` of it;
`search` looks for the highest rate; `show` and `page` tell. `session` puts them together.
"""
