"""What was found on GPUs as tables, for docs/performance.md."""

import json
from pathlib import Path
from typing import Any

from bench.result import RESULTS
from storage.percentiles import LEAST_RESULTS, P99
from worker.bench.cost import products
from worker.bench.show import Sheet, number
from worker.model.synthetic import architecture

Findings = dict[str, Any]

# What a kernel of the profile is part of, by a piece of its name; the first that fits.
_PARTS = (
    ("gelubias", "mlp in, with GELU"),
    ("fprop", "front end, layers 2 to 5"),
    ("bias_TNT", "qkv, attention out, mlp out; project"),
    ("nvjet", "front end, layers 6 and 7"),
    ("_attention", "attention"),
    ("_first_conv", "front end, layer 1, with norm and GELU"),
    ("_norm_gelu", "norm and GELU of the others"),
    ("_add_norm", "add and norm"),
    ("_positional", "positional"),
    ("_means", "means"),
)
_REST = "masks, copies, what else"
_SLOTS = 16_384
_FRAMES = 249  # of a clip of 5 s
_KINDS = {  # the products of each part
    "mlp in, with GELU": ("mlp in",),
    "front end, layers 2 to 5": ("front end 2", "front end 3", "front end 4", "front end 5"),
    "front end, layers 6 and 7": ("front end 6", "front end 7"),
    "qkv, attention out, mlp out; project": ("qkv", "attention out", "mlp out", "project"),
    "positional": ("positional",),
}


def markdown(directory: Path = RESULTS) -> str:
    """A section for each device that has a directory of findings."""
    devices = sorted(path.parent for path in directory.glob("*/engine.json"))
    return "\n\n".join(_section(device) for device in devices)


def _section(directory: Path) -> str:
    found: dict[str, Findings] = {
        path.stem: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))
    }
    engine = found["engine"]
    nvidia = engine["nvidia"]
    sheets = [
        _engine(engine, found["start"], found["tests"]["tests"]),
        _rungs(engine["rungs"]),
        _profile(engine[f"profile_{_SLOTS}"], found["kernels"]),
        _reference(found["reference"], engine),
        _feed(found["feed"]),
        _kernels(found["kernels"]),
    ]
    return "\n\n".join(
        [
            f"### {nvidia['name']}",
            f"torch {engine['torch']}, driver {nvidia['driver_version']}; `random:large` in "
            f"float16; [all that was found](../bench/results/{directory.name}/).",
            *(f"**{sheet.title}**:\n\n{sheet.markdown()}" for sheet in sheets),
        ]
    )


def _engine(engine: Findings, start: Findings, tests: Findings) -> Sheet:
    five, short, one = engine["throughput_five"], engine["throughput_short"], engine["one_clip_5s"]
    gpu = five["gpu"]
    begun = {name: json.loads(start[name]["said"]) for name in ("cold", "warm")}
    ready = (
        f"{begun[name]['warm_up_seconds']:.1f} of {start[name]['process_seconds']:.1f}"
        for name in ("cold", "warm")
    )
    passed = tests["tests"] - tests["failures"] - tests["errors"] - tests["skipped"]
    return Sheet(
        "The engine",
        ("what", "value"),
        (
            ("seconds of audio a second, clips of 5 s", number(five["audio_seconds_a_second"])),
            ("the same, 1.5 to 12 s", number(short["audio_seconds_a_second"])),
            ("clips of 5 s a second", number(five["clips_a_second"])),
            ("the device works, of that time", f"{five['device_busy']:.1%}"),
            ("power and clock meanwhile", f"{gpu['watts']:.0f} W, {gpu['sm_mhz']:.0f} MHz"),
            ("one clip of 5 s, ms", _clip_ms(one)),
            ("CPU of the process, ms a clip", number(five["cpu_ms_a_clip"])),
            ("warm-up of a process, s, nothing compiled yet", next(ready)),
            ("the same, compiled before", next(ready)),
            ("memory, GB", f"{engine['memory_gb']['reserved']:.1f}"),
            ("tests on the device", f"{passed} of {tests['tests']} passed"),
        ),
    )


def _clip_ms(one: Findings) -> str:
    """With p99 where the runs are enough for one; older findings do not say how many they were."""
    told = f"p50 {one['p50_ms']:.2f}"
    enough = one.get("runs", 0) >= LEAST_RESULTS[P99]
    return f"{told}, p99 {one['p99_ms']:.2f}" if enough else told


def _rungs(rungs: Findings) -> Sheet:
    return Sheet(
        "A tape by its length, of 5 s clips",
        ("slots", "ms", "µs a slot", "audio s / s"),
        tuple(
            (
                slots,
                f"{row['graph_ms']:.2f}",
                f"{row['us_a_slot']:.2f}",
                number(row[_RTFX]) if row[_RTFX] else "—",
            )
            for slots, row in rungs.items()
        ),
    )


_RTFX = "audio_seconds_a_second"


def _profile(profile: Findings, kernels: Findings) -> Sheet:
    """The parts of a full tape, the longest first, and what the device's own rates allow."""
    took: dict[str, float] = {}
    for kernel in profile["by_kernel"]:
        part = next((part for piece, part in _PARTS if piece in kernel["name"]), _REST)
        took[part] = took.get(part, 0.0) + kernel["us"] / 1000
    least = _least(kernels)
    rows = [
        (part, f"{ms:.2f}", f"{least[part]:.2f}" if part in least else "—")
        for part, ms in sorted(took.items(), key=lambda item: -item[1])
    ]
    gaps = (profile["span_us"] - profile["busy_us"]) / 1000
    rows += [
        ("between kernels", f"{gaps:.2f}", "—"),
        ("all", f"{profile['span_us'] / 1000:.2f}", f"{sum(least.values()):.2f}"),
    ]
    return Sheet(
        f"A tape of {_SLOTS:,} slots by kernel, alone and cool, ms",
        ("part", "took", "at the device's rates"),
        tuple(rows),
    )


def _least(kernels: Findings) -> dict[str, float]:
    """Milliseconds at the rate of a large product, or of the fastest pass over memory."""
    config = architecture("large")
    products_a_ms = 1e9 * kernels["product 8192"]["tflop_a_second"]
    bytes_a_ms = 1e6 * kernels["norm and GELU"]["gb_a_second"]
    flop = {kind.name: kind.flop for kind in products(config)}
    least = {
        part: _SLOTS * sum(flop[name] for name in names) / products_a_ms
        for part, names in _KINDS.items()
    }
    row = 2 * config.front_end[0].channels * _SLOTS
    clips = _SLOTS / (config.gap + _FRAMES)
    seen = config.num_extra_tokens + _FRAMES
    wide = 2 * config.embed_dim * _SLOTS
    return least | {
        "attention": config.num_blocks * 4 * clips * seen**2 * config.embed_dim / products_a_ms,
        "front end, layer 1, with norm and GELU": 64 * row / bytes_a_ms,
        "norm and GELU of the others": (
            (2 * (32 + 16 + 8 + 4 + 2 + 1) * row + 2 * config.positional_depth * wide) / bytes_a_ms
        ),
        "add and norm": (2 * config.num_blocks + 1) * 3 * wide / bytes_a_ms,
        "means": wide / bytes_a_ms,
    }


def _reference(reference: Findings, engine: Findings) -> Sheet:
    rows = []
    for lengths in ("five", "short"):
        alone = reference[f"{lengths}_alone"][_RTFX]
        padded = [name for name in reference if name.startswith(f"{lengths}_padded_")]
        best = max(padded, key=lambda name: reference[name][_RTFX])
        sides = {
            "reference, a clip at a time": f"{lengths}_alone",
            f"reference, padded batches of {best.rpartition('_')[2]}, float16": best,
            "ours, one thread that also normalizes": f"{lengths}_ours",
        }
        for side, name in sides.items():
            row = reference[name]
            rows.append(
                (
                    f"{row['clips']} × {lengths}",
                    side,
                    number(row[_RTFX]),
                    f"{row[_RTFX] / alone:.1f}",
                    f"{row['ms_a_clip']:.2f}",
                    "—" if name.endswith("alone") else f"{row['largest_score_difference']:.4f}",
                )
            )
        ours = engine[f"throughput_{lengths}"]
        rtfx, ms = ours[_RTFX], 1000 / ours["clips_a_second"]
        clips = f"{ours['clips']:,} × {lengths}"
        rows.append(
            (clips, "ours, the engine", number(rtfx), f"{rtfx / alone:.1f}", f"{ms:.2f}", "—")
        )
    return Sheet(
        "Beside the reference",
        ("clips", "side", "audio s / s", "×", "ms a clip", "largest move of a score"),
        tuple(rows),
    )


def _feed(feed: Findings) -> Sheet:
    names = {
        "wav_1": "WAV of 5 s, one worker",
        "wav_2": "WAV of 5 s, two workers",
        "wav_4": "WAV of 5 s, four workers",
        "mp3_1": "MP3 of 3.7 s, one worker",
        "mp3_2": "MP3 of 3.7 s, two workers",
        "mp3_4": "MP3 of 3.7 s, four workers",
    }
    rows = tuple(
        (
            what,
            number(feed[name]["jobs_a_second_middle"]),
            f"{feed[name]['device_busy']:.0%}",
            f"{feed[name]['worker_cpu_ms_a_job']:.2f}",
            number(feed[name]["clips_a_tape"]),
        )
        for name, what in names.items()
        if name in feed
    )
    latency = feed["latency_wav"]
    said = f"p50 {latency['p50_ms']:.1f} ms, most {latency['most_ms']:.1f} ms"
    return Sheet(
        f"The whole service, from a directory; one job from XADD to its hash: {said}",
        (
            "what",
            "jobs a second",
            "device busy: the workers' shares added up",
            "worker's CPU, ms a job",
            "clips on a tape",
        ),
        rows,
    )


def _kernels(kernels: Findings) -> Sheet:
    rows = []
    for name, row in kernels.items():
        if not isinstance(row, dict):
            continue
        rate = row.get("tflop_a_second") or row.get("gb_a_second")
        unit = "TFLOP/s" if "tflop_a_second" in row else "GB/s"
        rows.append((name, f"{row['us']:.0f}", f"{number(rate)} {unit}" if rate else "—"))
    return Sheet(f"Kernels, each alone, on {_SLOTS:,} slots", ("what", "µs", "rate"), tuple(rows))
