"""When the alerts of deploy/observability fire, and for whom, by Prometheus' own tool."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.prometheus import program

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "observability" / "prometheus" / "alerts.yml"
MINUTES = 30
# Labels of an exporter's series, of two installations.
OURS = 'job="emostream-exporter", instance="ours:9470"'
OTHERS = 'job="emostream-exporter", instance="others:9470"'
DEAD, AGE = "emostream_queue_jobs", "emostream_dead_letter_newest_seconds"
OLDEST, PAUSED = "emostream_queue_oldest_seconds", "emostream_queue_paused_seconds"
BACKLOG, VERDICT = "emostream_backlog", "emostream_worker_gpu_verdict"


def fires(alert: str, series: dict[str, str], by: str, where: Path) -> set[str]:
    """Which labels `by` it has after half an hour of these values, one for each minute."""
    fired = set()
    for value in ("ours:9470", "others:9470", "high", "normal", "bulk"):
        active = f'ALERTS{{alertname="{alert}", alertstate="firing", {by}="{value}"}}'
        test = {
            "interval": "1m",
            "input_series": [{"series": each, "values": told} for each, told in series.items()],
            "promql_expr_test": [
                {
                    "expr": f"count({active}) > 0",
                    "eval_time": f"{MINUTES}m",
                    "exp_samples": [{"labels": "{}", "value": 1}],
                }
            ],
        }
        file = where / "test.yml"
        described = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}
        file.write_text(yaml.safe_dump(described))
        command = [program("promtool"), "test", "rules", str(file)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode == 0:
            fired.add(value)
        else:  # it was understood, and nothing was found
            assert "got:nil" in "".join(ran.stdout.split() + ran.stderr.split()), ran.stderr
    return fired


def steady(value: int) -> str:
    """That, minute by minute."""
    return f"{value}+0x{MINUTES}"


@pytest.mark.parametrize(
    ("letters", "age", "expected"),
    [
        # Beyond a hundred each lane's are an estimate: a replay of one lane's raises the others'.
        ({"normal": "900+0x24 0+0x5", "high": "30+0x24 120+0x5"}, "9000+60x30", set()),
        # Five hundred are replayed, and as many die again.
        ({"normal": "900+0x24 400+0x2 900+0x3", "high": "0+0x30"}, "9000+60x26 0+60x3", {"ours"}),
        ({"normal": "900+0x24 400+0x5", "high": "0+0x30"}, "9000+60x26 0+60x3", {"ours"}),
        ({"normal": "1+0x30", "high": "0+0x30"}, "0+60x30", set()),
    ],
    ids=["replayed", "replayed, and dead again", "some of them", "long ago"],
)
def test_dead_letters(
    letters: dict[str, str], age: str, expected: set[str], tmp_path: Path
) -> None:
    """While jobs are given up on, however many were before; not since some are replayed."""
    series = {f'{DEAD}{{{OURS}, lane="{lane}", state="dead"}}': n for lane, n in letters.items()}
    series[f"{AGE}{{{OURS}}}"] = age
    found = fires("EmostreamDeadLetters", series, "instance", tmp_path)
    assert {each.partition(":")[0] for each in found} == expected


def test_an_old_backlog(tmp_path: Path) -> None:
    """After a quarter of an hour; where bulks wait on purpose, after hours."""
    for ages, expected in (
        ({"high": 1000, "normal": 100, "bulk": 10_000}, {"high"}),
        ({"high": 100, "normal": 1000, "bulk": 30_000}, {"normal", "bulk"}),
    ):
        of = {f'{OLDEST}{{{OURS}, lane="{x}", state="queued"}}': steady(ages[x]) for x in ages}
        paused = {f'{PAUSED}{{{OURS}, lane="{lane}"}}': steady(0) for lane in ages}
        assert fires("EmostreamBacklogOld", of | paused, "lane", tmp_path) == expected


def test_one_installation_is_no_reason_of_another(tmp_path: Path) -> None:
    """A lane that is paused in the one, or a backlog of the one, says nothing of the other."""
    series = {
        f"{what}{{{whose}, {labels}}}": steady(value)
        for whose, paused in ((OURS, 60), (OTHERS, 0))
        for what, labels, value in (
            (OLDEST, 'lane="normal", state="queued"', 1000),
            (PAUSED, 'lane="normal"', paused),
        )
    }
    assert fires("EmostreamBacklogOld", series, "instance", tmp_path) == {"others:9470"}
    series = {
        f"{BACKLOG}{{{whose}}}": steady(backlog) for whose, backlog in ((OURS, 0), (OTHERS, 9000))
    }
    for whose in (OURS, OTHERS):
        series[f'{VERDICT}{{{whose}, worker="w", gpu="g", verdict="under-fed"}}'] = steady(1)
    assert fires("EmostreamGpuUnderFed", series, "instance", tmp_path) == {"others:9470"}


@pytest.mark.parametrize(
    ("failed", "waiting", "silent", "queued", "paused", "expected"),
    [
        (0, 0, 100, 0, 0, set()),
        (1, 0, 0, 0, 0, {"EmostreamBulkFailed"}),
        (0, 1, 0, 0, 60, {"EmostreamBulkStuck"}),
        (0, 0, 1000, 0, 0, {"EmostreamBulkStuck"}),
        (0, 0, 1000, 9000, 0, set()),  # its lane is full, of another bulk's jobs or its own
        (0, 0, 22_000, 9000, 0, {"EmostreamBulkStuck"}),
        (0, 0, 1000, 0, 60, set()),  # it waits on purpose, and that it is paused is told anyway
    ],
)
def test_bulks_that_stand(
    failed: int,
    waiting: int,
    silent: int,
    queued: int,
    paused: int,
    expected: set[str],
    tmp_path: Path,
) -> None:
    """Where one failed, waits for something, or nobody gets on with it; of this installation."""
    series = {
        f'emostream_bulks{{{OURS}, status="failed"}}': steady(failed),
        f'emostream_bulks{{{OURS}, status="waiting"}}': steady(waiting),
        f"emostream_bulk_silent_seconds{{{OURS}}}": steady(silent),
        f'emostream_queue_jobs{{{OURS}, lane="bulk", state="queued"}}': steady(queued),
        f'emostream_queue_jobs{{{OTHERS}, lane="bulk", state="queued"}}': steady(0),
        f'{PAUSED}{{{OURS}, lane="bulk"}}': steady(paused),
        f'{PAUSED}{{{OTHERS}, lane="bulk"}}': steady(60),
    }
    alerts = ("EmostreamBulkFailed", "EmostreamBulkStuck")
    assert {each for each in alerts if fires(each, series, "instance", tmp_path)} == expected
