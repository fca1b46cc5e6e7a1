"""What `python -m producer control` is told besides what all programs agree on."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from producer.control.webhooks.destinations import parse_hosts
from producer.control.webhooks.message import parse_secrets
from storage.redis.url import Kind, parse_redis_url
from storage.settings import Count, SharedSettings

_MOST_PAGE_KEYS = 2000  # looked up and sent within one job of rq's, with a wide margin
_MOST_TIMEOUT_SECONDS = 25  # what is under way should end before control does
_MOST_SENDERS = 500


class ControlSettings(SharedSettings):
    """Everything that control can be told."""

    control_redis_url: str = Field(
        "",
        repr=False,  # it may hold a password
        description="Where `control` keeps the jobs of rq, as `EMO_REDIS_URL`; empty for the same "
        "server. No Redis Cluster: rq has none.",
    )
    bulk_lane_jobs: Count = Field(
        10_000,
        description="Jobs in a lane, whoever sent them, at which bulks wait until there are fewer.",
    )
    bulk_page_keys: Annotated[int, Field(ge=1, le=_MOST_PAGE_KEYS)] = Field(
        500, description="Keys that a bulk sends in its turn, and then writes down how far it is."
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="Signs webhooks: `whsec_` and the base64 of 24 to 64 random bytes; two of them "
        "with a comma, the new one first, while receivers change over. Without it no webhook is "
        "sent, and all wait.",
    )
    webhook_hosts: str = Field(
        "",
        description="The only hosts that callbacks may name, with commas: `hooks.example.org`, "
        "`*.example.org`, `10.0.0.7:8080`. Empty for any with public addresses, at the usual port.",
    )
    webhook_http: bool = Field(
        False, description="Callbacks may be `http://`, which encrypts nothing."
    )
    webhook_timeout_seconds: Annotated[float, Field(gt=0, le=_MOST_TIMEOUT_SECONDS)] = Field(
        15, description="A receiver has so long to answer, from connecting on."
    )
    webhook_concurrency: Annotated[int, Field(ge=1, le=_MOST_SENDERS)] = Field(
        64, description="Webhooks that are sent at once."
    )
    webhook_host_concurrency: Annotated[int, Field(ge=1, le=_MOST_SENDERS)] = Field(
        8, description="Webhooks that are sent to one host at once."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level of what is logged."
    )

    @field_validator("control_redis_url")
    @classmethod
    def _control_redis_url(cls, value: str) -> str:
        if value:
            parse_redis_url(value)  # connects to nothing
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _webhook_secret(cls, value: SecretStr) -> SecretStr:
        parse_secrets(value.get_secret_value())
        return value

    @field_validator("webhook_hosts")
    @classmethod
    def _webhook_hosts(cls, value: str) -> str:
        parse_hosts(value)
        return value

    @model_validator(mode="after")
    def _no_cluster(self) -> Self:
        url = self.rq_url
        if url and parse_redis_url(url).kind is Kind.CLUSTER:
            raise ValueError(
                "EMO_CONTROL_REDIS_URL: rq, by which control works, has no Redis Cluster: name a "
                "server that is none; the lanes may stay where they are"
            )
        return self

    @property
    def rq_url(self) -> str:
        """Where the jobs of rq are."""
        return self.control_redis_url or self.redis_url
