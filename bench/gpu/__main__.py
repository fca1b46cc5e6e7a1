"""`python -m bench.gpu`: all that can be learnt from a GPU in a quarter of an hour.

Each section is a process of its own with a time limit; what it finds is in OUT/<section>.json after
every step, so that nothing is lost with a section that fails. `--dry` runs them on a CPU with tiny
sizes, to find their mistakes. The order and the minutes are in docs/gpu.md.
"""

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from bench.gpu.found import Found

ROOT = Path(__file__).resolve().parents[2]
# Seconds that each may take.
SECTIONS = {"start": 60, "engine": 90, "tests": 150, "reference": 90, "feed": 120, "kernels": 90}
_DRY_SECONDS = 300

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Directory for what is found.")],
    only: Annotated[str, typer.Option(help="Sections, with commas between.")] = ",".join(SECTIONS),
    dry: Annotated[bool, typer.Option("--dry", help="On a CPU, with tiny sizes.")] = False,
    section: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Run sections one after the other, and sum up which of them ended well."""
    out.mkdir(parents=True, exist_ok=True)
    if section:
        module = importlib.import_module(f"bench.gpu.{section}")
        found = Found(out / f"{section}.json", dry=dry)
        module.measure(found, dry=dry)
        found.keep(ended=True)
        sys.stdout.flush()
        os._exit(0)  # neither threads nor CUDA's own clean-up are waited for
    names = only.split(",")
    if unknown := set(names) - set(SECTIONS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: choose of {', '.join(SECTIONS)}")
    ended = {name: _run(name, out, dry=dry) for name in names}
    print({name: "ended" if well else "FAILED" for name, well in ended.items()})
    if not all(ended.values()):
        raise typer.Exit(1)


def _run(name: str, out: Path, *, dry: bool) -> bool:
    """Whether the section came to its end, without a step that failed."""
    print(f"==== {name}", flush=True)
    started = time.monotonic()
    command = [sys.executable, "-m", "bench.gpu", "--out", str(out), "--section", name]
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": _path()}
    if dry:
        command.append("--dry")
        env |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        seconds = _DRY_SECONDS if dry else SECTIONS[name]
        code = subprocess.run(command, cwd=ROOT, env=env, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        code = -1
        print(f"!! {name}: not done after {seconds} s", flush=True)
    print(f"==== {name}: {time.monotonic() - started:.1f} s", flush=True)
    return code == 0 and Found.read(out / f"{name}.json").well


def _path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


if __name__ == "__main__":
    app()
