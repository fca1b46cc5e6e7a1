"""Debian's Prometheus on a free port, with what it is asked by HTTP."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from tests.support.polling import until
from tests.support.ports import own_port

START_SECONDS = 30.0


def program(name: str) -> str:
    """`prometheus` or `promtool`. Without it the test is skipped; in CI it fails."""
    found = shutil.which(name)
    if found is None:
        message = f"NO {name} on this machine: Debian's package `prometheus` has it"
        assert not os.environ.get("CI"), message
        pytest.skip(message)
    return found


class Prometheus:
    """Answers of one server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer. Raises AssertionError with what it says is wrong."""
        answer = urllib3.request("GET", f"{self.url}/api/v1/{path}", fields=parameters)
        said = json.loads(answer.data)
        assert said["status"] == "success", f"{parameters}: {said.get('error')}"
        return said["data"]

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return urllib3.request("GET", f"{self.url}/-/ready", retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False


@contextmanager
def prometheus(directory: Path, targets: dict[str, list[str]], rules: Path) -> Iterator[Prometheus]:
    """One that scrapes those targets, by job, and evaluates those rules, every second."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": each}]}
            for job, each in targets.items()
        ],
    }
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{own_port()}"
    command = [
        *(program("prometheus"), f"--config.file={file}", f"--web.listen-address={address}"),
        f"--storage.tsdb.path={directory / 'data'}",
    ]
    with (directory / "prometheus.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        server = Prometheus(f"http://{address}")
        until(server.ready, START_SECONDS)
        yield server
    finally:
        process.kill()
        process.wait()
