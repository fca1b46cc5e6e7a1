"""The image that `Dockerfile` builds holds what it needs, and nothing that nobody pinned."""

import ast
import re
import subprocess
import tomllib
from fnmatch import fnmatch

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from storage import VERSION
from tests.unit.test_compose import ROOT, dockerfile, service


def locked(name: str) -> dict[str, list[str]]:
    """The hashes of each package of a lock file, by its name."""
    text = (ROOT / "deploy" / name).read_text("utf-8").replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line[0] != "#"]
    found: dict[str, list[str]] = {}
    for requirement, *rest in lines:
        package = requirement.partition("==")[0]
        hashes = [word for word in rest if word.startswith("--hash=sha256:")]
        found[package] = found.get(package, []) + (hashes or [""])
    return found


def test_lock_files_hold_every_dependency() -> None:
    """With hashes, in a version that pyproject.toml allows; of torch without CUDA the version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    used = extras.keys() - {"gradio", "reference", "test"}  # those no program of ours imports
    wanted = [*project["dependencies"], *(line for name in used for line in extras[name])]
    requirements = {canonicalize_name(one.name): one for one in map(Requirement, wanted)}
    base, gpu, cpu = (locked(f"{name}.lock") for name in ("requirements", "torch-gpu", "torch-cpu"))
    assert all(all(hashes) for hashes in [*base.values(), *gpu.values()])
    assert requirements.keys() <= base.keys() | gpu.keys()
    assert {"torch", "torchaudio"}.isdisjoint(base)
    assert set(cpu) == {"torch"}
    for name in ("requirements.lock", "torch-gpu.lock", "torch-cpu.lock"):
        text = (ROOT / "deploy" / name).read_text("utf-8")
        assert not re.search(r"://|index-url|find-links", text)
        for package, version in re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.MULTILINE):
            if package in requirements:
                assert requirements[package].specifier.contains(version), package
    locks = [(ROOT / f"deploy/torch-{flavour}.lock").read_text() for flavour in ("cpu", "gpu")]
    script = (ROOT / "deploy/lock").read_text("utf-8")
    assert set(re.findall(r"--extra ([a-z]+)", script)) == used
    pins = [re.findall(r"^torch==([0-9.]+)", lock, re.M) for lock in locks]
    assert pins[0] == pins[1]


def test_image_is_installed_from_the_lock_files() -> None:
    """With hashes demanded, nothing resolved anew, and no code run; torch for CPUs has its pin."""
    runs = [rest for name, rest in dockerfile() if name == "RUN"]
    installs = [part for rest in runs for part in re.findall(r"pip install [^;&]+", rest)]
    assert len(installs) == 3
    for install in installs:
        assert "--no-deps --only-binary :all:" in install
        (lock,) = re.findall(r"-r (\S+)", install)
        assert ("--require-hashes" in install) == (lock != "torch-cpu.lock")
        assert (ROOT / "deploy" / lock).is_file()


def test_a_compiler_is_in_the_gpu_image_alone() -> None:
    """Nothing on a CPU needs one, and it is a gift to whoever gets in."""
    (chosen,) = [rest for name, rest in dockerfile() if name == "RUN" and "apt-get" in rest]
    choice, _, install = chosen.partition("esac")
    assert "gcc" not in install
    for flavour, compiler in (("cpu", ""), ("gpu", "gcc libc6-dev")):
        shell = f"FLAVOUR={flavour}; {choice} esac; echo $compiler"
        said = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == compiler


def test_image_copies_what_exists() -> None:
    """Each path that the Dockerfile copies is in the repository, and .dockerignore lets it in."""
    patterns = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    allowed = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    copies = [rest for name, rest in dockerfile() if name == "COPY" and "--from" not in rest]
    sources = [source for rest in copies for source in rest.split()[:-1]]
    assert {"producer", "storage", "worker"} <= set(sources)
    for source in sources:
        assert list(ROOT.glob(source)), source
        assert any(fnmatch(source, pattern) for pattern in allowed), source


@pytest.mark.parametrize("module", ["worker", "producer"])
def test_image_runs_programs_that_exist(module: str) -> None:
    """What the image starts by default, and what the producer service starts, are programs."""
    instructions = dict(dockerfile())
    entrypoint = ast.literal_eval(instructions["ENTRYPOINT"])
    started = {
        "worker": [*entrypoint, *ast.literal_eval(instructions["CMD"])],
        "producer": service("producer")["entrypoint"],
    }
    assert started[module][:3] == ["python", "-m", module]
    assert (ROOT / module / "__main__.py").is_file()


def test_image_is_labelled_with_the_version() -> None:
    """The version in the image's label is the project's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert ("ARG", f"VERSION={project['version']}") in dockerfile()
    assert project["version"] == VERSION
