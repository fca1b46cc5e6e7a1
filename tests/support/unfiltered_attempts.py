"""The same as `worker.audio.attempts`, on a kernel that refuses the filter."""

import errno
import os
import sys
from unittest.mock import patch

from worker.audio import confinement
from worker.audio.attempts import main


def _refuse() -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


if __name__ == "__main__":
    with patch.object(confinement, "allow_decoding_alone", _refuse):
        main(sys.argv[1:])
