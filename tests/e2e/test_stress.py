"""A load on a real worker, as users start both."""

import json
from pathlib import Path

import pytest

from storage.redis.embedded import EmbeddedRedis
from tests.e2e.conftest import Program
from tests.support.worker_process import SAMPLES, worker_process


@pytest.mark.timeout(240)
def test_a_real_worker_keeps_its_scores_under_load(
    redis_server: EmbeddedRedis, tmp_path: Path, program: Program
) -> None:
    """Clips of others on the same tape change nothing, to 1e-5; what it says is all there."""
    with worker_process(tmp_path, redis_server.url, SAMPLES):
        for duration in ("4s", "20s"):  # the longer one where the machine stood still meanwhile
            ran = program(
                *("producer", "stress", "--files", str(SAMPLES), "--concurrency", "16"),
                *("--duration", duration, "--warm-up", "1s", "--json", "--page", "run.html"),
                EMO_REDIS_URL=redis_server.url,
                EMO_STORE=SAMPLES.as_uri(),
            )
            assert ran.returncode in {0, 5}, ran.stderr
            run = json.loads(ran.stdout)["run"]
            assert not run["failed"]
            if run["jobs"] > 16:
                break
    assert run["jobs"] > 16
    assert run["clips_per_tape"] > 1, "they do share tapes"
    assert run["largest_score_difference"] < 1e-5
    assert run["service"] | {"model_revision": ""} == {
        **{"workers": 1, "model": "tiny", "model_revision": "", "device": "cpu"},
        "dtype": "float32",
    }
    assert set(run["stages"]) == {"queue", "fetch", "decode", "normalize", "infer", "between"}
    assert all(sample["worker_cores"] is not None for sample in run["samples"])
    assert "<svg" in (tmp_path / "run.html").read_text()
    assert not (SAMPLES / "uploads").exists()
