"""Settings both programs share, read once from `EMO_*` variables or `.env`, passed on as values."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Self, TypeVar

from pydantic import ByteSize, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    SettingsConfigDict,
)

from storage.objects.store import ManagedStore, open_store
from storage.redis.url import Kind, is_hash_tagged, parse_redis_url

ENV_PREFIX = "EMO_"
# Settings of one program each, which may stand in an environment that all programs share.
_GROUPS = tuple(
    f"{ENV_PREFIX}{group}_" for group in ("BULK", "CONSOLE", "CONTROL", "EXPORTER", "WEBHOOK")
)
# The worker's own, which have no such beginning in common, by field: producers cannot import them.
_OF_THE_WORKER = (
    *("model", "model_revision", "device", "dtype", "resample", "compute_threads", "tape_slots"),
    *("require_durable_redis", "buckets", "output_prefix", "max_wait_seconds", "lease_seconds"),
    *("grace_seconds", "max_attempts", "max_crashes", "retry_seconds", "fetch_timeout_seconds"),
    *("decode_timeout_seconds", "window_seconds", "max_audio_seconds", "max_object_bytes"),
    *("jobs_in_flight", "bytes_in_flight", "fetch_threads", "decode_processes", "spool_dir"),
    *("decode_memory_bytes", "spool_bytes", "speech_threshold", "speech_min_turn_seconds"),
    *("speech_merge_gap_seconds", "speech_pad_seconds", "speech_max_turn_seconds"),
    *("metrics_address", "log_level"),
)
_LONGEST_TTL_SECONDS = 10 * 365 * 86_400
_MOST_EVENTS = 10**12
_LARGEST_JOB_BYTES = 1024**2  # larger entries are not read at all
_HIGHEST_PORT = 65_535
_SHOULD = re.compile(r"^(?:Input|String) should\b")
# What may be told of a URL that cannot be understood: where its password begins, nobody knows.
_SCHEME = re.compile(r"(?:rediss?(?:\+sentinel|\+cluster)?|unix|s3s?|file|https?)://")
_URLS = {"redis_url", "control_redis_url", "store", "output_store"}

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Size = Annotated[ByteSize, Field(ge=1)]


class InvalidSettings(Exception):
    """All that is wrong with the settings, one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class SharedSettings(BaseSettings):
    """What producers and workers must agree on."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    redis_url: str = Field(
        "",
        repr=False,  # it may hold a password
        description="Redis or Valkey, 6.2 or newer: `redis://`, `rediss://`, `unix://`, "
        "`redis+sentinel://` or `redis+cluster://`. Required by everything but `classify` and the "
        "demo.",
    )
    prefix: str = Field(
        "emo",
        pattern=r"^[A-Za-z0-9_.:{}-]{1,64}$",
        description="Key prefix. On Redis Cluster it must be a hash tag such as `{emo}`.",
    )
    store: str = Field(
        "",
        description="Where the audio objects are: `s3://host:port/bucket`, `s3s://…` for TLS, or "
        "`file:///directory`.",
    )
    output_store: str = Field(
        "",
        description="Where `.npy` outputs, manifests and exports go, as `EMO_STORE`; empty for the "
        "same store.",
    )
    s3_access_key: str = Field("", description="Access key of the object store.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="Secret key of the object store.")
    s3_region: str = Field("us-east-1", description="Region of the object store.")
    max_backlog: Count = Field(
        1_000_000, description="Jobs in the lanes at which `submit` waits or refuses."
    )
    max_job_bytes: Annotated[ByteSize, Field(ge=1, le=_LARGEST_JOB_BYTES)] = Field(
        ByteSize(32 * 1024),
        description="Largest job, field names and values together; up to 1 MiB.",
    )
    result_ttl_seconds: Annotated[float, Field(gt=0, le=_LONGEST_TTL_SECONDS)] = Field(
        86_400, description="How long a result is kept. Rate × this × 1.3 KB must fit the server."
    )
    results_maxlen: Annotated[int, Field(ge=1, le=_MOST_EVENTS)] = Field(
        1_000_000, description="Events kept in the results stream."
    )

    def open_store(self, url: str, **limits: Any) -> ManagedStore:
        """The object store of a URL, with these credentials; `limits` as `open_store` takes them.

        Connects to nothing.
        """
        return open_store(
            url,
            access_key=self.s3_access_key,
            secret_key=self.s3_secret_key.get_secret_value(),
            region=self.s3_region,
            **limits,
        )

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: str) -> str:
        if value:
            parse_redis_url(value)  # connects to nothing
        return value

    @field_validator("store", "output_store")
    @classmethod
    def _store_url(cls, value: str) -> str:
        if value:
            open_store(value)  # connects to nothing
        return value

    @model_validator(mode="after")
    def _one_slot(self) -> Self:
        of_cluster = self.redis_url and parse_redis_url(self.redis_url).kind is Kind.CLUSTER
        if of_cluster and not is_hash_tagged(self.prefix):
            raise ValueError(
                f"EMO_PREFIX={self.prefix}: on Redis Cluster it must be a hash tag, like {{emo}}"
            )
        return self

    @model_validator(mode="after")
    def _key_pair(self) -> Self:
        if bool(self.s3_access_key) != bool(self.s3_secret_key.get_secret_value()):
            raise ValueError(
                "EMO_S3_ACCESS_KEY, EMO_S3_SECRET_KEY: one is set without the other; set both, or "
                "neither"
            )
        return self


Settings = TypeVar("Settings", bound=SharedSettings)


def load(
    kind: type[Settings],
    *,
    required: Sequence[str] = (),
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Settings:
    """Read the settings. Raises InvalidSettings with every problem at once.

    `required` names fields that this command cannot do without; `options` come before variables.
    """
    problems: list[str] = []
    given = {**DotEnvSettingsSource(kind)(), **EnvSettingsSource(kind)(), **options}
    settings: Settings | None = None
    try:
        settings = kind(**options)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            if problem["type"] == "default_factory_not_called":
                continue  # a default that depends on what is wrong
            if not problem["loc"]:  # of several settings together
                problems.append(problem["msg"].removeprefix("Value error, "))
                continue
            name = str(problem["loc"][0])
            said = _SHOULD.sub("must", problem["msg"].removeprefix("Value error, "))
            secret = kind.model_fields[name].annotation is SecretStr
            shown = "…" if secret else _shown(name, str(given.get(name, "")))
            problems.append(f"{variable(name)}={shown}: {said}")
    known = settings.model_dump() if settings else given
    problems += [
        f"{variable(name)}: required; {kind.model_fields[name].description}"
        for name in required
        if not known.get(name)
    ]
    if problems or settings is None:
        raise InvalidSettings(problems)
    return settings


def require_address(value: str) -> str:
    """The value, which must be `host:port`. Raises ValueError."""
    port = re.fullmatch(r".+:(\d{1,5})", value)
    if not (port and int(port[1]) <= _HIGHEST_PORT):
        raise ValueError("must be host:port")
    return value


def variable(field: str) -> str:
    """The environment variable of a settings field."""
    return ENV_PREFIX + field.upper()


def unknown_settings(kind: type[SharedSettings]) -> list[str]:
    """`unknown_variables` of the environment, and of `.env`, where a name is told in capitals."""
    in_file = (name.upper() for name in DotEnvSettingsSource(kind).env_vars)
    return unknown_variables(kind, {*os.environ, *in_file})


def unknown_variables(kind: type[SharedSettings], names: Iterable[str]) -> list[str]:
    """`EMO_*` variables, in whatever case, that no program has: most likely misspelt.

    Those of a program that has a group of its own are its business, unless the kind is its too.
    """
    own = {variable(name) for name in kind.model_fields}
    others = tuple(group for group in _GROUPS if not any(name.startswith(group) for name in own))
    known = own.union(map(variable, _OF_THE_WORKER))
    return sorted(
        name
        for name in names
        if (upper := name.upper()).startswith(ENV_PREFIX)
        and upper not in known
        and not upper.startswith(others)
    )


def table(kind: type[SharedSettings], *, beside: type[SharedSettings] | None = None) -> str:
    """The settings as a Markdown table, for docs/settings.md; without those of `beside`."""
    rows = ["| variable | default | what |", "| --- | --- | --- |"]
    known = beside.model_fields if beside else {}
    for name, field in kind.model_fields.items():
        if name in known:
            continue
        default = field.default
        shown = default.get_secret_value() if isinstance(default, SecretStr) else default
        text = f"`{shown}`" if shown not in ("", None) else ""
        if field.default_factory is not None:
            text = "by machine"  # the table must be the same wherever it is made
        rows.append(f"| `{variable(name)}` | {text} | {field.description} |")
    return "\n".join(rows)


def _shown(name: str, value: str) -> str:
    """The value; of what is a URL, or may have been meant as one, the scheme alone."""
    if name not in _URLS and "://" not in value and "@" not in value:
        return value
    scheme = _SCHEME.match(value)
    return f"{scheme[0]}…" if scheme else "…"
