"""What the pages show others how to set, and the figures that they derive from defaults."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from producer.exporter.metrics import catalogue
from storage.errors import InvalidJob
from storage.wire.parts import parse_segments
from tests.unit.test_compose import KEY, compose
from worker.assembly import stages
from worker.clip import SAMPLE_RATE_HZ
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
SHOWN = [
    yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", OPERATIONS, re.M | re.S)
]
DRAIN_SECONDS = 10.0  # beyond the grace period: docs/delivery.md
pytestmark = pytest.mark.usefixtures("clean_environment")


def shown(key: str) -> dict[str, Any]:
    """The only block that has such a key at its top."""
    (found,) = (block for block in SHOWN if key in block)
    return dict(found)


def test_kubernetes_reaches_a_worker_and_lets_it_drain() -> None:
    """Its probes ask where the worker is told to listen, for all to reach; and it waits."""
    pod, settings = shown("spec")["spec"], WorkerSettings()
    (container,) = pod["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    host, _, port = variables["EMO_METRICS_ADDRESS"].rpartition(":")
    assert host == "0.0.0.0"
    probes = {name: each["httpGet"] for name, each in container.items() if name.endswith("Probe")}
    assert len(probes) == 3
    assert {each["port"] for each in probes.values()} == {int(port)}
    assert {each["path"] for each in probes.values()} == {"/livez", "/readyz"}
    assert pod["terminationGracePeriodSeconds"] >= settings.grace_seconds + DRAIN_SECONDS


def test_keda_takes_no_value_for_a_fault() -> None:
    """As by default it does not: nothing is told while Redis is away, and would be a zero."""
    described = shown("triggers")
    (trigger,) = described["triggers"]
    assert trigger["metadata"]["query"] in {each.name for each in catalogue()}
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert described["fallback"]["replicas"] > 0


def test_how_long_each_stage_may_take_is_told() -> None:
    """Of every stage, and for decoding the minutes that it comes to."""
    table = OPERATIONS.partition("### Stuck")[2].partition("```")[0]
    rows = re.findall(r"^\| (`\w+`.*?) \| (.*) \|$", table, re.M)
    told = {name: what for names, what in rows for name in re.findall(r"`(\w+)`", names)}
    source = Path(stages.__file__).read_text(encoding="utf-8")
    named = {
        node.args[0].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Stage"
        and isinstance(node.args[0], ast.Constant)
    }
    assert {"fetch", "decode", "resample", "normalize"} <= named <= told.keys()
    limits = WorkerSettings().audio_limits()
    for seconds, said in ((limits.window_seconds, ""), (3600, " for an hour of audio")):
        minutes = stages._decode_patience(limits, round(seconds * SAMPLE_RATE_HZ * 4)) // 60
        assert f" {minutes:.0f} min{said}" in told["decode"]


def test_the_longest_speaker_is_told() -> None:
    """A longer one fails its job."""
    for page in ("wire.md", "calls.md"):
        text = " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())
        (most,) = re.findall(r"`speaker`[^.;]{1,60}of at most (\d+) characters", text)
        turn = '[{"start_s": 0, "end_s": 1, "speaker": "%s"}]'
        assert parse_segments(turn % ("a" * int(most)))
        with pytest.raises(InvalidJob, match="item 0, 'speaker'"):
            parse_segments(turn % ("a" * (int(most) + 1)))


def test_the_example_of_another_store_is_for_all_that_have_one() -> None:
    """Each service that is told of a store is told of that one, with keys of its own."""
    page = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    (shown,) = (block for block in blocks if "EMO_STORE" in block)
    told = {name: each["environment"] for name, each in yaml.safe_load(shown)["services"].items()}
    services = compose()["services"].items()
    have = {name for name, each in services if "EMO_STORE" in each.get("environment", {})}
    assert told.keys() == have
    for name, environment in told.items():
        assert environment.keys() >= compose()["x-store"].keys(), name
        assert not KEY.search(str(environment)), "those are of the S3 server in compose.yaml"


def test_what_is_shown_to_end_it_ends_all_of_it() -> None:
    """`down` leaves the containers of every profile that it is not told of."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    ended = re.findall(r"docker compose\b([^`\n]*) down\b", text)
    assert ended
    assert {options.strip() for options in ended} == {"--profile '*'"}
