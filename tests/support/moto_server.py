"""An S3 server of moto's, in this process."""

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer


@contextmanager
def moto_server() -> Iterator[str]:
    """The address, host:port, of one that is empty.

    All such servers of a process share what is in them: another test's too, which ran before.
    """
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"{host}:{port}"
        urllib.request.urlopen(f"http://{address}/moto-api/reset", data=b"").close()
        yield address
    finally:
        server.stop()
