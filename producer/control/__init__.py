"""`python -m producer control`: what is slow and beside the lanes, by rq.

`program.py` runs the parts that `parts.py` lists. A part is made once, from a `Context`, and brings

- `functions`: what may be run as a job of rq, by a name such as `bulk.send_page`. Nothing
  else is ever run, whatever is written into `rq:*`: a job holds such a name and JSON, no pickle.
  `context.queue.send(name, *args, …)` has it run, at once or later, with tries again;
- `threads`: what runs beside rq all the time. Each is called in a thread of its own, with an Event
  that is set at the end, and is called again a while after it raised.

One job runs at a time, for 30 seconds at most; it has to be safe to run again.
"""
