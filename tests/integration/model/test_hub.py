"""From a model's name to a verified directory, with the real client against a stub hub."""

import shutil
import socket
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_stub import Files, StubHub, refusing_endpoint, silent_hub
from worker.model.hub import DEFAULT_MODEL, DEFAULT_REVISION, FILES, ModelSource, resolve
from worker.model.manifest import MANIFEST_NAME, ModelDamaged, ModelUnavailable, verify
from worker.model.probe import HubUnreachable, probe

TINY = Path(__file__).parents[2] / "data" / "parity" / "tiny"
MODEL = "emostream/tiny"

V1: Files = {name: (TINY / name).read_bytes() for name in FILES} | {"example/test.wav": b"RIFF"}
V2: Files = V1 | {"config.yaml": V1["config.yaml"] + b"# of another revision\n"}


@pytest.fixture(autouse=True)
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the client out of the home directory, and away from the real hub."""
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", refusing_endpoint())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHub]:
    """Run a hub with two revisions of one model, which the client is told to use."""
    with StubHub({MODEL: {"v1": dict(V1), "v2": dict(V2)}}) as stub:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", stub.endpoint)
        yield stub


def contents(directory: Path) -> Files:
    """Read the files of a directory, without the manifest."""
    found = {path.name: path.read_bytes() for path in directory.iterdir()}
    del found[MANIFEST_NAME]
    return found


def test_a_model_is_downloaded_and_verified(hub: StubHub, tmp_path: Path) -> None:
    """The files of a model id end up in the cache with a manifest that they agree with."""
    source = resolve(MODEL, "v1")
    assert source == ModelSource(source.directory, MODEL, "v1")
    assert source.directory.is_relative_to(tmp_path / "cache")
    assert contents(source.directory) == {name: V1[name] for name in FILES}
    known = verify(source.directory)
    assert (known.name, known.revision, set(known.files)) == (MODEL, "v1", set(FILES))


def test_the_pinned_revision_is_what_is_asked_for(hub: StubHub) -> None:
    """Of two revisions the given one is downloaded, and both can be kept."""
    second = resolve(MODEL, "v2")
    first = resolve(MODEL, "v1")
    assert hub.fetched("config.yaml") == ["v2", "v1"]
    assert contents(first.directory)["config.yaml"] == V1["config.yaml"]
    assert contents(second.directory)["config.yaml"] == V2["config.yaml"]


def test_the_default_model_has_a_pinned_revision(hub: StubHub) -> None:
    """Without a revision the default model's pinned commit is asked for."""
    hub.models[DEFAULT_MODEL] = {DEFAULT_REVISION: dict(V1)}
    with pytest.raises(ModelDamaged):
        resolve(DEFAULT_MODEL, "")
    assert hub.fetched("model.pt") == [DEFAULT_REVISION]


def test_other_content_under_the_pinned_revision_is_refused(hub: StubHub, tmp_path: Path) -> None:
    """A hub that serves other weights consistently, listing and all, is not believed."""
    hub.models[DEFAULT_MODEL] = {DEFAULT_REVISION: dict(V1)}
    with pytest.raises(ModelDamaged, match=r"config\.yaml .*expected sha256 f4fa0eb8\w+, got 1c03"):
        resolve(DEFAULT_MODEL, DEFAULT_REVISION)
    assert not list((tmp_path / "cache").rglob("config.yaml"))


def test_only_terminals_see_progress_bars(hub: StubHub, capsys: pytest.CaptureFixture[str]) -> None:
    """A download into a log file writes no progress bars."""
    resolve(MODEL, "v1")
    assert "%|" not in capsys.readouterr().err


def test_verified_files_start_without_the_hub(hub: StubHub) -> None:
    """A second start asks the hub nothing, and works when there is none."""
    first = resolve(MODEL, "v1")
    asked = len(hub.requests)
    assert resolve(MODEL, "v1") == first
    assert len(hub.requests) == asked
    hub.stop()
    assert resolve(MODEL, "v1") == first


def test_a_damaged_file_is_refused(hub: StubHub, tmp_path: Path) -> None:
    """A file whose bytes differ from the listing is named and deleted; the next start succeeds."""
    hub.damaged = {"model.pt"}

    with pytest.raises(ModelDamaged, match=r"model\.pt .*expected \w{16}.*, got \w{16}.*start aga"):
        resolve(MODEL, "v1")

    assert not list((tmp_path / "cache").rglob("model.pt*"))
    hub.damaged.clear()
    assert contents(resolve(MODEL, "v1").directory)["model.pt"] == V1["model.pt"]


def test_a_truncated_file_is_refused(hub: StubHub, tmp_path: Path) -> None:
    """A file that is shorter than listed is named, with both lengths, and deleted."""
    hub.shortened = {"model.pt"}
    whole = len(V1["model.pt"])

    with pytest.raises(ModelDamaged, match=rf"model\.pt .*{whole // 2} bytes.*lists {whole} bytes"):
        resolve(MODEL, "v1")

    assert not list((tmp_path / "cache").rglob("model.pt*"))


def test_a_broken_connection_is_resumed(hub: StubHub) -> None:
    """A connection that breaks half way costs the rest of the file, not the download."""
    hub.cut = {"model.pt"}

    assert contents(resolve(MODEL, "v1").directory)["model.pt"] == V1["model.pt"]
    assert hub.fetched("model.pt") == ["v1", "v1"]


def test_half_a_download_is_never_used(hub: StubHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a broken download left is not started with, and is completed when the hub is back."""
    hub.lost = {"model.pt"}
    with pytest.raises(ModelUnavailable, match=r"broke off: model\.pt.*Start again"):
        resolve(MODEL, "v1")

    with monkeypatch.context() as offline:
        offline.setenv("MODELSCOPE_ENDPOINT", refusing_endpoint())
        with pytest.raises(HubUnreachable):
            resolve(MODEL, "v1")

    hub.lost.clear()
    assert contents(resolve(MODEL, "v1").directory) == {name: V1[name] for name in FILES}
    assert hub.fetched("config.yaml") == ["v1"]


def test_a_revision_that_moves_during_the_download_is_refused(hub: StubHub) -> None:
    """What was listed is what must arrive, even where the hub changes its mind consistently."""
    hub.moves_to = V2

    with pytest.raises(ModelDamaged, match=rf"config\.yaml .*expected {len(V1['config.yaml'])} by"):
        resolve(MODEL, "v1")


def test_a_file_damaged_later_is_refused(hub: StubHub) -> None:
    """A verified file that changed on disk is named, with what to do, and never started with."""
    directory = resolve(MODEL, "v1").directory
    (directory / "tokens.txt").write_bytes(b"angry\n")

    with pytest.raises(ModelDamaged, match=r"tokens\.txt is damaged: expected 119 .*Delete .*/v1 "):
        resolve(MODEL, "v1")

    shutil.rmtree(directory)
    assert contents(resolve(MODEL, "v1").directory)["tokens.txt"] == V1["tokens.txt"]


def test_another_revisions_files_are_not_taken_for_it(hub: StubHub) -> None:
    """Verified files of one revision, copied to the place of another, are replaced."""
    first = resolve(MODEL, "v1").directory
    shutil.copytree(first, first.with_name("v2"))

    assert contents(resolve(MODEL, "v2").directory)["config.yaml"] == V2["config.yaml"]


def test_two_workers_download_once(hub: StubHub) -> None:
    """Two workers that start at the same time on one cache share one download."""
    together = threading.Barrier(2)

    def start() -> ModelSource:
        together.wait()
        return resolve(MODEL, "v1")

    with ThreadPoolExecutor(2) as workers:
        first, second = (workers.submit(start) for _ in range(2))
        assert first.result() == second.result()

    assert hub.fetched("model.pt") == ["v1"]
    # The second did not even probe: it waited for the first.
    assert hub.requests.count(f"/api/v1/models/{MODEL}") == 1
    verify(first.result().directory)


def counted_asks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that are asked from now on, whatever comes of it."""
    asked: list[str] = []
    real = urllib.request.urlopen

    def urlopen(url: str, **options: Any) -> Any:
        asked.append(url)
        return real(url, **options)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_a_silent_hub_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that accepts connections and never answers costs the probe's time, not minutes."""
    with silent_hub() as endpoint:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", endpoint)
        asked = counted_asks(monkeypatch)
        with pytest.raises(
            HubUnreachable, match=rf"{endpoint} .*no answer within 0\.5 s.*EMO_MODEL"
        ):
            resolve(MODEL, "v1", probe_seconds=0.5)
        assert len(asked) == 1


def test_hanging_name_resolution_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that hangs does not hold up the start for longer than the probe's time."""
    released = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        released.wait()
        raise socket.gaierror("the test is over")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        with pytest.raises(HubUnreachable, match=r"no answer within 0\.2 s"):
            probe("http://hub.invalid", MODEL, 0.2)
    finally:
        released.set()


def test_a_refused_connection_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listening at the endpoint is an error at the first try, not after others."""
    asked = counted_asks(monkeypatch)

    with pytest.raises(HubUnreachable, match=r"Connection refused.*MODELSCOPE_ENDPOINT"):
        resolve(MODEL, "v1")

    assert len(asked) == 1


def test_an_unknown_model_is_refused(hub: StubHub) -> None:
    """An id that the hub does not have is an error which names the id."""
    with pytest.raises(ModelUnavailable, match=r"EMO_MODEL=emostream/nothing .*not found"):
        resolve("emostream/nothing", "v1")


def test_an_unknown_revision_is_refused(hub: StubHub) -> None:
    """A revision that the model does not have is an error which names the revision."""
    with pytest.raises(ModelUnavailable, match=r"EMO_MODEL_REVISION=v3: .*not found"):
        resolve(MODEL, "v3")


def test_a_repository_without_the_files_is_refused(hub: StubHub) -> None:
    """A repository that holds something else is refused before anything is downloaded."""
    hub.models[MODEL]["v1"] = {"README.md": b"not a model", "config.yaml": b""}

    with pytest.raises(ModelUnavailable, match=r"has no configuration\.json, tokens\.txt, model"):
        resolve(MODEL, "v1")

    assert hub.fetched("config.yaml") == []


def test_a_directory_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory, absolute or relative, needs neither hub nor revision."""
    assert resolve(str(TINY), "v1") == ModelSource(TINY, "tiny", "local")
    monkeypatch.chdir(TINY.parent)
    assert resolve("tiny", "") == ModelSource(TINY, "tiny", "local")


def test_a_directory_with_a_manifest_knows_its_revision(hub: StubHub, tmp_path: Path) -> None:
    """A downloaded directory that was moved is still known by its model's name and revision."""
    moved = tmp_path / "moved"
    shutil.copytree(resolve(MODEL, "v2").directory, moved)

    assert resolve(str(moved), "v1") == ModelSource(moved, MODEL, "v2")


@pytest.mark.parametrize("name", ["", "random:large", "tiny", "./models/tiny", "../x/y", "a/b/c"])
def test_a_name_that_is_neither_is_refused(name: str) -> None:
    """A name that is neither directory nor id is an error which says what is understood."""
    with pytest.raises(ModelUnavailable, match=r"neither a directory .* random:large"):
        resolve(name, "v1")


@pytest.mark.parametrize("revision", ["..", "a/b", "v1 "])
def test_a_revision_that_is_none_is_refused(revision: str) -> None:
    """A revision that could name a place outside of the cache is refused."""
    with pytest.raises(ModelUnavailable, match=r"EMO_MODEL_REVISION=.* is not a tag"):
        resolve(MODEL, revision)


def test_another_model_needs_a_revision() -> None:
    """Only the default model has a pinned revision; a moving branch is not assumed."""
    with pytest.raises(ModelUnavailable, match=r"EMO_MODEL_REVISION is not set.*emostream/tiny"):
        resolve(MODEL, "")
