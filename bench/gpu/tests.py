"""tests/gpu and the tests of the kernels, on the device."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.gpu.found import Found

TESTS = ("tests/gpu", "tests/kernels/test_kernels.py")
# Of what pytest brings along only this is needed; the rest may not be there.
_PLUGINS = ("-p", "pytest_timeout", "-p", "no:cacheprovider")


def measure(found: Found, *, dry: bool) -> None:
    """Run them, and count."""
    found.step("tests", lambda: _run(TESTS[1:] if dry else TESTS))


def _run(tests: tuple[str, ...]) -> dict[str, Any]:
    with TemporaryDirectory() as name:
        report = Path(name) / "report.xml"
        code = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                *_PLUGINS,
                f"--junitxml={report}",
                "--durations=5",
                *tests,
            ],
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            check=False,
        ).returncode
        suite = ET.parse(report).getroot()[0]
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed = [f"{case.get('classname')}::{case.get('name')}" for case in suite if len(case)]
    result = {**counts, "seconds": float(suite.get("time", 0)), "not_passed": failed}
    print(result, flush=True)
    if code:
        raise RuntimeError(str(result))
    return result
