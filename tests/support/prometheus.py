"""Debian's Prometheus on a free port, with what it is asked by HTTP."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3
import yaml

from tests.support.polling import until

START_SECONDS = 60.0


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


def port_of(pid: int) -> int:
    """The port that a process has chosen to listen on, waiting for it."""

    def listening() -> list[int]:
        found = psutil.Process(pid).net_connections("tcp")
        return [each.laddr.port for each in found if each.status == psutil.CONN_LISTEN]

    return until(listening, START_SECONDS)[0]


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
    command = [
        *(program("prometheus"), f"--config.file={file}", "--web.listen-address=127.0.0.1:0"),
        f"--storage.tsdb.path={directory / 'data'}",
    ]
    with (directory / "prometheus.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        server = Prometheus(f"http://127.0.0.1:{port_of(process.pid)}")
        until(server.ready, START_SECONDS)
        yield server
    finally:
        process.kill()
        process.wait()
