"""The same as `hostile_child`, on a kernel that refuses the filter."""

import errno
import os
import sys
from unittest.mock import patch

from tests.support.hostile_child import main
from worker.audio import confinement


def _refuse() -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


if __name__ == "__main__":
    with patch.object(confinement, "allow_decoding_alone", _refuse):
        main(sys.argv[1:])
