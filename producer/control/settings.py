"""What `python -m producer control` is told besides what all programs agree on."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from storage.redis.url import Kind, parse_redis_url
from storage.settings import Count, SharedSettings

_MOST_PAGE_KEYS = 5000  # what can be submitted within one job of rq's, with a wide margin


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
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level of what is logged."
    )

    @field_validator("control_redis_url")
    @classmethod
    def _control_redis_url(cls, value: str) -> str:
        if value:
            parse_redis_url(value)  # connects to nothing
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
