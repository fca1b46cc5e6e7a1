"""Attack a worker by every means that are known: `python -m tests.attacks [NAME…]`."""

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.attacks import clients, entries, unfit
from tests.chaos.checks import Check, table

ATTACKS: Mapping[str, Callable[[Path], list[Check]]] = {
    "oversized": entries.oversized,
    "sealed": entries.sealed,
    "slow-clients": clients.slow_clients,
    "full-spool": unfit.full_spool,
    "lost-store": unfit.lost_store,
    "absent-store": unfit.absent_store,
}

_BROKEN, _UNKNOWN, _NOT_TESTED = 1, 2, 3


def main(names: Sequence[str]) -> int:
    """Exit status 0 where everything held, 1 where something did not, 2 for an unknown name.

    3 where all held that was tested, and something could not be tested here.
    """
    if unknown := [name for name in names if name not in ATTACKS]:
        print(f"no attack {', '.join(unknown)}; there are {', '.join(ATTACKS)}", file=sys.stderr)
        return _UNKNOWN
    held = tested = True
    with tempfile.TemporaryDirectory(prefix="attacks-") as temporary:
        for name in names or ATTACKS:
            checks = ATTACKS[name](Path(temporary) / name)
            print(f"{name}\n{table(checks)}\n", flush=True)
            held &= all(each.held for each in checks)
            tested &= all(each.tested for each in checks)
    if not held:
        return _BROKEN
    return 0 if tested else _NOT_TESTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
