"""Results for people: tables and lines. Programs ask for `--json`."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic_core import from_json
from rich.table import Table
from rich.text import Text

from storage.queue.batches import BatchState
from storage.queue.dead import Cause, Letter
from storage.terminal.tables import parts_table
from storage.terminal.text import cell, json_line, plain
from storage.wire.messages import LISTS, OBJECTS

STAGES = ("queue_ms", "fetch_ms", "decode_ms", "normalize_ms", "infer_ms")
_HOURS_A_DAY = 24
_MOST = 2**63  # larger numbers are nobody's score, and may be more than a float holds

# Result fields in the order that people read them; what is not here follows.
ORDER = (
    *("job", "name", "key", "batch", "status", "label", "score", "scores", "duration_s", "warning"),
    *("error_code", "error"),
    *(f"{name}_key" for name in OBJECTS if name not in LISTS),
    *("segments_found", "speech_s", *LISTS, *(f"{name}_key" for name in LISTS)),
    *("model", "model_revision", "device", "dtype", "attempts", "deliveries", "run", "worker"),
    *STAGES,
    *("resample_ms", "batch_clips", "finished_at_ms"),
)
_AS_JSON = ("scores", *LISTS)
_NUMBERS = {
    *("segments_found", "speech_s"),
    *("score", "duration_s", "attempts", "deliveries", "run", "batch_clips", "finished_at_ms"),
    *("resample_ms", *STAGES),
}


def results_table(rows: Sequence[tuple[str, Mapping[str, str]]], *, first: str = "clip") -> Table:
    """Label, score, duration and stage times of each named result, or its error code."""
    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    table.add_column("label")
    table.add_column("score", justify="right")
    table.add_column("seconds", justify="right")
    for stage in STAGES:
        table.add_column(stage.replace("_ms", " ms"), justify="right")
    table.add_column("warning / error")
    for name, result in rows:
        if result.get("status") == "done":
            row = [name, result.get("label", ""), _score(result), result.get("duration_s", "")]
            row += [*(result.get(stage, "") for stage in STAGES), result.get("warning", "")]
        else:
            row = [name, result.get("status", ""), *[""] * (len(STAGES) + 2), _code(result)]
        table.add_row(*map(cell, row))
    return table


def errors(rows: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
    """What to tell of each result that is not done: too long for a table."""
    return [
        f"{name}: {_code(result)}: {result['error']}" for name, result in rows if "error" in result
    ]


def in_order(result: Mapping[str, str]) -> dict[str, str]:
    """The fields of a result, the important ones first."""
    known = [name for name in ORDER if name in result]
    return {name: result[name] for name in [*known, *sorted(set(result) - set(known))]}


def as_json(job_id: str, result: Mapping[str, str]) -> str:
    """One result as one line of JSON: numbers as numbers, fields that hold JSON opened up."""
    return json_line(_opened(job_id, result))


def shown_apart(job_id: str, result: Mapping[str, str]) -> tuple[dict[str, str], Table | None]:
    """The fields of a result that are a line each, and its parts as a table where it has some."""
    opened = _opened(job_id, result)
    table = parts_table({name: opened.get(name) for name in LISTS})
    apart = [name for name in LISTS if table is not None and isinstance(opened.get(name), list)]
    return {name: text for name, text in in_order(result).items() if name not in apart}, table


def parts(rows: Sequence[tuple[str, str, Mapping[str, str]]]) -> Iterator[Table | Text]:
    """Of each result that has parts, its name and a table of them, or where they are."""
    for name, job_id, result in rows:
        _, table = shown_apart(job_id, result)
        where = {part: result[f"{part}_key"] for part in LISTS if f"{part}_key" in result}
        if table is not None or where:
            yield Text("\n") + cell(f"{name}:")
        if table is not None:
            yield table
        for part, key in where.items():
            yield cell(f"{part}: too long to be shown; in the output store, {key}")


def aligned(fields: Mapping[str, str]) -> list[str]:
    """Names and values in two columns, a line each."""
    names = [plain(name) for name in fields]
    width = max(map(len, names), default=0)
    return [f"{name:<{width}}  {value}" for name, value in zip(names, fields.values(), strict=True)]


def batch_fields(state: BatchState) -> dict[str, str | int]:
    """What a batch has counted, in the order that people read it; what is not there is left out."""
    counts = {status.value: count for status, count in state.ends.items()}
    fields: dict[str, str | int | None] = {
        **{"batch": state.id, "status": state.status.value, "run": state.run},
        **{"total": state.total, "jobs": state.jobs, "open": state.open, **counts},
        **{"repeated": state.repeated, "created_at_ms": state.created_at_ms},
        **{"completed_at_ms": state.completed_at_ms, "cancel_at_ms": state.cancel_at_ms},
    }
    return {name: value for name, value in fields.items() if value is not None}


def age(seconds: float | None) -> str:
    """`45s`, `12m`, `3h 5m`, `2d 4h`; `-` for none."""
    if seconds is None:
        return "-"
    seconds = max(0, seconds)  # an entry may be dated ahead
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if not minutes:
        return f"{int(seconds)}s"
    if not hours:
        return f"{minutes}m"
    return f"{hours}h {minutes % 60}m" if hours < _HOURS_A_DAY else f"{hours // 24}d {hours % 24}h"


def letters_table(letters: Sequence[Letter], now_ms: int) -> Table:
    """Dead letters, one a line."""
    table = Table(box=None, pad_edge=False)
    for column in ("entry", "job", "lane", "reason"):
        table.add_column(column, overflow="fold")
    for column in ("attempts", "run", "age"):
        table.add_column(column, justify="right")
    table.add_column("worker", overflow="fold")
    table.add_column("key", overflow="fold")
    for letter in letters:
        told = _letter(letter)
        shown = (*told.values(), _died(letter, now_ms), letter.owner, letter.fields.get("key", ""))
        table.add_row(*map(cell, shown))
    return table


def causes_table(causes: Sequence[Cause]) -> Table:
    """What jobs died of, one reason a line."""
    table = Table(box=None, pad_edge=False)
    table.add_column("reason", overflow="fold")
    table.add_column("letters", justify="right")
    table.add_column("newest", overflow="fold")
    table.add_column("job", overflow="fold")
    for cause in causes:
        shown = (cause.reason, str(cause.letters), cause.example.entry, cause.example.job_id)
        table.add_row(*map(cell, shown))
    return table


def letter_and_job(letter: Letter, now_ms: int, job: Mapping[str, str] | None) -> dict[str, str]:
    """What is known of a letter, and of its job now; the job's own fields are not among it."""
    now = job or {"status": "unknown: its result has expired"}
    return {
        **_letter(letter),
        "worker": letter.owner,
        "age": _died(letter, now_ms),
        **{f"job {name}": now[name] for name in ("status", "run", "error") if name in now},
    }


def letter_as_json(letter: Letter, now_ms: int, job: Mapping[str, str] | None = None) -> str:
    """A letter as one line of JSON; `job_now` is the job's hash, where it was looked up."""
    told: dict[str, object] = {
        **_letter(letter),
        "attempts": _opened_field("attempts", letter.attempts),
        "run": _opened_field("run", letter.run),
        "worker": letter.owner,
        "died_at_ms": letter.died_at_ms,
        "age_s": (now_ms - letter.died_at_ms) / 1000,
        "fields": letter.fields,
    }
    if job is not None:
        told["job_now"] = _opened(letter.job_id, job)
    return json_line(told)


def _letter(letter: Letter) -> dict[str, str]:
    return {
        "entry": letter.entry,
        "job": letter.job_id,
        "lane": letter.lane,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "run": letter.run,
    }


def _died(letter: Letter, now_ms: int) -> str:
    return age((now_ms - letter.died_at_ms) / 1000)


def _opened(job_id: str, result: Mapping[str, str]) -> dict[str, object]:
    ordered = in_order({**result, "job": job_id})
    return {name: _opened_field(name, value) for name, value in ordered.items()}


def _opened_field(name: str, value: str) -> object:
    """What a field holds: a number or JSON, by its name; anyone may have written something else."""
    if name in _NUMBERS:
        return as_number(value)
    if name in _AS_JSON:
        try:
            opened = from_json(value, allow_inf_nan=False)
            json_line(opened)  # 1e999 is read as infinity
        except ValueError:
            return value
        return opened
    return value


def as_number(text: str) -> int | float | str:
    """The number that a text is; any other text as it is."""
    number = _number(text)
    return text if number is None else number


def _number(text: str) -> int | float | None:
    """The number that a text is in JSON, and that JSON can tell again; None for any other."""
    try:
        number = from_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    of_kind = isinstance(number, int | float) and not isinstance(number, bool)
    return number if of_kind and abs(number) < _MOST else None


def _score(result: Mapping[str, str]) -> str:
    score = _number(result.get("score", ""))
    return result.get("score", "") if score is None else f"{score:.3f}"


def _code(result: Mapping[str, str]) -> str:
    return result.get("error_code", "")


def bulks_table(rows: Sequence[Mapping[str, object]]) -> Table:
    """A line for each bulk: how far it is, and what became of its jobs."""
    table = Table(box=None, pad_edge=False)
    for name in ("bulk", "status", "lane"):
        table.add_column(name, overflow="fold")
    counts = ("keys", "skipped", "refused", "jobs", "open", "done", "failed", "dead")
    for name in counts:
        table.add_column(name, justify="right")
    table.add_column("of", overflow="fold")
    for row in rows:
        shown = [*(row[name] for name in ("bulk", "status", "lane"))]
        shown += [row.get(name, "") for name in counts]
        table.add_row(
            *(cell(str(each)) for each in shown),
            cell(str(row.get("prefix", row.get("manifest")) or "(everything)")),
        )
    return table
