"""What `python -m producer exporter` is told besides what all programs agree on."""

from typing import Literal

from pydantic import Field, field_validator

from storage.settings import SharedSettings, require_address


class ExporterSettings(SharedSettings):
    """Everything that the exporter can be told."""

    exporter_address: str = Field(
        "127.0.0.1:9470",
        description="Where the exporter serves `/metrics`, `/livez` and `/readyz`.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level of what is logged."
    )

    @field_validator("exporter_address")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        return require_address(value)
