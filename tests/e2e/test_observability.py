"""What deploy/observability holds, on a real Prometheus that scrapes a demo and an exporter."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from producer import demo
from storage.queue.workers import Words
from storage.redis.connection import connect
from storage.wire.messages import Keys, Lane
from tests.support import nvml
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.prometheus import Prometheus, port_of, program, prometheus
from tests.unit.test_docs import anchors
from worker.telemetry.health import HealthServer
from worker.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
OBSERVABILITY = ROOT / "deploy" / "observability"
RULES = OBSERVABILITY / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((OBSERVABILITY / "grafana/dashboards/emostream.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    for rule in group["rules"]
}
SHOWN = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in PANELS
    for target in panel["targets"]
}
EXPRESSIONS = SHOWN | {name: rule["expr"] for name, rule in ALERTS.items()}
KEYS = Keys("emo")


# What a demo on any machine does not tell of itself: that it was in trouble, and that it has a GPU.
ELSEWHERE = re.compile(
    r"emostream_jobs_retried_total|emostream_gpu_\w+|emostream_worker_gpu_verdict"
)


def metrics_of_trouble() -> Metrics:
    """Those of a worker with a GPU, which has tried a job again."""
    metrics = Metrics()
    metrics.gpu.watch(nvml.UUID)
    metrics.retried.labels("storage_unavailable").inc()
    return metrics


class Scraped(NamedTuple):
    """A Prometheus, when it began, and the addresses of the demo's own programs."""

    asking: Prometheus
    since: float
    demo: Sequence[str]

    def ever(self, expression: str) -> Any:
        """What came of it at any time: a worker tells no latency of a time without jobs."""
        span = {"start": f"{self.since}", "end": f"{time.time()}", "step": "1s"}
        return self.asking.ask("query_range", query=expression, **span)["result"]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """One that has scraped what `make demo` starts and an exporter, and evaluated all rules.

    The demo has classified its clips, and something that is no audio.
    """
    program("prometheus")
    place = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("EMO_METRICS_ADDRESS", "127.0.0.1:0")
        shown = demo.Demo(place)
        url = stack.enter_context(shown.redis(keep=False))
        worker = shown.start_worker(url, str(demo.BUNDLED_MODEL), keep=False)
        stack.callback(_end, worker)
        command = [sys.executable, "-m", "producer", "exporter"]
        variables = {"EMO_REDIS_URL": url, "EMO_EXPORTER_ADDRESS": "127.0.0.1:0"}
        environment = {**demo.environment(), **variables}
        exporter = subprocess.Popen(command, cwd=place, env=environment)
        stack.callback(_end, exporter)
        client = stack.enter_context(connect(url, name="test", timeout_seconds=TIMEOUT_SECONDS))
        trouble = stack.enter_context(_trouble(patch, place, client))
        addresses = [f"127.0.0.1:{port_of(each.pid)}" for each in (exporter, worker)]
        targets = {"emostream-exporter": addresses[:1]}
        targets["emostream-worker"] = [*addresses[1:], trouble]
        since = time.time()
        running = stack.enter_context(prometheus(place, targets, RULES))
        # Before its jobs, so that there is a rate of them.
        until(lambda: len(running.ask("query", query="up == 1")["result"]) == 3, 120)
        shown.classify(url, worker)
        (place / "store" / "page.wav").write_text("<p>no audio</p>")
        client.xadd(KEYS.lane(Lane.NORMAL), {"key": "page.wav", "job": "page", "batch": "b"})
        until(lambda: client.hget(KEYS.result("page"), "status") == b"failed", 120)
        ended = 'emostream_jobs_ended_total{status="failed"}'
        until(lambda: running.ask("query", query=ended)["result"], 120)
        until(lambda: all(evaluated(running, name) for name in ALERTS), 120)
        yield Scraped(running, since, addresses)


@contextmanager
def _trouble(patch: pytest.MonkeyPatch, place: Path, client: Any) -> Iterator[str]:
    """A lane paused in 1970, a dead letter, and a worker with a GPU; where that has its metrics."""
    nvml.load(patch, nvml.say(place / "readings", **{**nvml.BUSY, "reasons": 0x40}))
    client.hset(KEYS.paused, Lane.BULK.value, 1)
    client.xadd(KEYS.lane(Lane.BULK), {"key": "a.wav"})
    client.xadd(KEYS.dead, {"job": "given-up"})
    words = {"state": "ready", "gpu_uuid": nvml.UUID, "gpu_verdict": "healthy"}
    Words(client, KEYS, "gpu", lease_seconds=600).tell(words)
    server = HealthServer(
        "127.0.0.1:0", metrics_of_trouble(), alive=lambda: True, ready=lambda: True
    )
    server.start()
    yield f"127.0.0.1:{server.port}"
    server.stop()


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def evaluated(running: Prometheus, name: str) -> bool:
    """Whether it was looked at since there was something to see."""
    rules = [rule for group in running.ask("rules")["groups"] for rule in group["rules"]]
    (rule,) = (rule for rule in rules if rule["name"] == name)
    return bool(rule["health"] != "unknown")


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_expression_runs_and_names_series_that_exist(name: str, scraped: Scraped) -> None:
    """A name that is misspelt is no error to Prometheus, only nothing, for ever.

    The demo's own programs have all of them that they can have.
    """
    expression = EXPRESSIONS[name].replace("$__rate_interval", "1m")
    scraped.asking.ask("query", query=expression)
    series = set(re.findall(r"\bemostream_\w+|\bup\b", expression))
    assert series
    until(lambda: series <= set(scraped.asking.ask("label/__name__/values")), 30)
    for each in series:
        if not ELSEWHERE.fullmatch(each):
            by_the_demo = f'{each}{{instance=~"{"|".join(scraped.demo)}"}}'
            until(partial(scraped.ever, by_the_demo), 30)


@pytest.mark.parametrize("name", SHOWN)
def test_every_panel_shows_something(name: str, scraped: Scraped) -> None:
    """On a demo beside which something has gone wrong, no panel is empty."""
    expression = SHOWN[name].replace("$__rate_interval", "1m")
    until(lambda: scraped.ever(expression), 60)


def test_labels_of_expressions_exist(scraped: Scraped) -> None:
    """What is matched, summed by or shown in a legend is a label that something has."""
    known = set(scraped.asking.ask("labels"))
    text = " ".join(EXPRESSIONS.values())
    named = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", text))
    for group in re.findall(r"\b(?:by|without|on|ignoring) \(([^)]*)\)", text):
        named |= {label.strip() for label in group.split(",") if label.strip()}
    for panel in PANELS:
        for target in panel["targets"]:
            named |= set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    for rule in ALERTS.values():
        named |= set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert named
    assert named <= known


def test_alerts_evaluate_without_error(scraped: Scraped) -> None:
    """And what is wrong here is found: a lane that was paused in 1970."""

    def found() -> dict[str, Any]:
        """All rules, in a look at which that one fires: after a late scrape there is no series."""
        groups = scraped.asking.ask("rules")["groups"]
        rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
        return rules if rules["EmostreamLanePaused"]["state"] != "inactive" else {}

    rules = until(found)
    assert {name: rule.get("lastError") for name, rule in rules.items()} == dict.fromkeys(ALERTS)
    assert rules["EmostreamRedisDown"]["state"] == "inactive"


def test_rules_are_valid() -> None:
    """By Prometheus's own tool, and its configuration too."""
    for what, file in (("rules", RULES), ("config", RULES.with_name("prometheus.yml"))):
        command = [program("promtool"), "check", what, str(file)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_runbook(name: str) -> None:
    """A section of a page, that is there, and a summary for whoever is woken."""
    annotations = ALERTS[name]["annotations"]
    page, _, anchor = annotations["runbook_url"].partition("#")
    assert anchor in anchors(ROOT / page)
    assert annotations["summary"]
    assert ALERTS[name]["labels"]["severity"] in ("critical", "warning", "info")


def test_runbooks_can_be_given_an_address(tmp_path: Path) -> None:
    """By the command of the page: each is one, of the section that it was."""
    rules = tmp_path / "alerts.yml"
    rules.write_bytes(RULES.read_bytes())
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    (command,) = re.findall(r"^sed .*runbook_url.*alerts\.yml$", page, re.MULTILINE)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    for group in yaml.safe_load(rules.read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            address = rule["annotations"]["runbook_url"]
            path = ALERTS[rule["alert"]]["annotations"]["runbook_url"]
            assert re.fullmatch(rf"https://[^/]+/.*/{re.escape(path)}", address)


def test_every_runbook_has_an_alert() -> None:
    """What is no alert any more is no section either."""
    named = {rule["annotations"]["runbook_url"].partition("#")[2] for rule in ALERTS.values()}
    sections = anchors(ROOT / "docs/operations.md")
    assert {each for each in sections if each.startswith("alert-")} == named


def test_the_dashboard_is_valid() -> None:
    """Panels have ids of their own and do not overlap; each asks the provisioned data source."""
    sources = yaml.safe_load(
        (OBSERVABILITY / "grafana/provisioning/datasources/prometheus.yml").read_text("utf-8")
    )
    (source,) = sources["datasources"]
    assert {"uid", "title", "schemaVersion", "time", "refresh", "templating"} <= DASHBOARD.keys()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    for panel in PANELS:
        assert panel["type"] in ("timeseries", "stat", "table")
        assert panel["targets"]
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": source["type"], "uid": source["uid"]}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


def test_compose_mounts_what_grafana_is_told_of() -> None:
    """The provisioned path of dashboards is where the service has them."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    mounts = dict(mount.split(":")[:2] for mount in services["grafana"]["volumes"])
    file = OBSERVABILITY / "grafana/provisioning/dashboards/emostream.yml"
    (provider,) = yaml.safe_load(file.read_text("utf-8"))["providers"]
    assert mounts["./deploy/observability/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/observability/grafana/provisioning"] == "/etc/grafana/provisioning"
