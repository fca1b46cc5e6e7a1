"""What deploy/observability holds, on a real Prometheus that scrapes exporter and worker."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from producer.exporter.program import new_server
from producer.exporter.settings import ExporterSettings
from storage.queue.workers import Words
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Lane
from tests.support import nvml
from tests.support.polling import until
from tests.support.prometheus import Prometheus, program, prometheus
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


def worker_metrics() -> Metrics:
    """Those of a worker that has met everything once."""
    metrics = Metrics()
    metrics.gpu.watch(nvml.UUID)
    for status, code in (("done", ""), ("failed", "not_audio"), ("dead", "internal")):
        metrics.ended.labels(status, code).inc()
    metrics.retried.labels("storage_unavailable").inc()
    for stage in ("fetch", "decode", "normalize", "infer"):
        metrics.observe_stage(stage, 0.1)
    metrics.job_seconds.observe(0.4)
    metrics.queue_seconds.observe(4)
    return metrics


@pytest.fixture(scope="module")
def scraped(
    redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus that has scraped both, twice at least, and evaluated all rules."""
    program("prometheus")
    directory = tmp_path_factory.mktemp("prometheus")
    with pytest.MonkeyPatch.context() as patch, connect(redis_server.url, name="test") as client:
        nvml.load(patch, nvml.say(directory / "readings", **{**nvml.BUSY, "reasons": 0x40}))
        client.flushall()
        client.xadd(KEYS.lane(Lane.BULK), {"key": "a.wav"})
        client.hset(KEYS.paused, Lane.BULK.value, 1)
        client.xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav"})
        Words(client, KEYS, "one", lease_seconds=600).tell(
            {
                **{"state": "ready", "clips_per_s": 2.0, "audio_s_per_s": 9.0, "latency_ms": 30},
                **{"tape_fill": 0.9, "device_share": 0.8, "in_flight": 3, "gpu_uuid": nvml.UUID},
                "gpu_verdict": "healthy",
            }
        )
        settings = ExporterSettings(redis_url=redis_server.url, exporter_address="127.0.0.1:0")
        servers = [
            new_server(settings, client),
            HealthServer("127.0.0.1:0", worker_metrics(), alive=lambda: True, ready=lambda: True),
        ]
        for server in servers:
            server.start()
        try:
            exporter, worker = (f"127.0.0.1:{server.port}" for server in servers)
            targets = {"emostream-exporter": [exporter], "emostream-worker": [worker]}
            with prometheus(directory, targets, RULES) as running:
                until(lambda: all(evaluated(running, name) for name in ALERTS), 120)
                twice = "count_over_time(up[1m]) >= 2"
                until(lambda: running.ask("query", query=twice)["result"][1:], 120)
                yield running
        finally:
            for server in servers:
                server.stop()


def evaluated(running: Prometheus, name: str) -> bool:
    """Whether it was looked at since there was something to see."""
    rules = [rule for group in running.ask("rules")["groups"] for rule in group["rules"]]
    (rule,) = (rule for rule in rules if rule["name"] == name)
    return bool(rule["health"] != "unknown")


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_expression_runs_and_names_series_that_exist(name: str, scraped: Prometheus) -> None:
    """A name that is misspelt is no error to Prometheus, only nothing, for ever."""
    expression = EXPRESSIONS[name].replace("$__rate_interval", "1m")
    scraped.ask("query", query=expression)
    series = set(re.findall(r"\bemostream_\w+|\bup\b", expression))
    assert series
    assert series <= set(scraped.ask("label/__name__/values"))


@pytest.mark.parametrize("name", SHOWN)
def test_every_panel_shows_something(name: str, scraped: Prometheus) -> None:
    """On a queue and a worker that have met everything once, no panel is empty."""
    expression = SHOWN[name].replace("$__rate_interval", "1m")
    until(lambda: scraped.ask("query", query=expression)["result"], 60)


def test_labels_of_expressions_exist(scraped: Prometheus) -> None:
    """What is matched, summed by or shown in a legend is a label that something has."""
    known = set(scraped.ask("labels"))
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


def test_alerts_evaluate_without_error(scraped: Prometheus) -> None:
    """And what is wrong here is found: a lane that was paused in 1970."""
    rules = [rule for group in scraped.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule.get("lastError") for rule in rules} == dict.fromkeys(ALERTS)
    firing = {rule["name"] for rule in rules if rule["state"] != "inactive"}
    assert "EmostreamLanePaused" in firing
    assert "EmostreamRedisDown" not in firing


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
