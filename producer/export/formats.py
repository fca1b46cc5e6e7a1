"""How lists are written: manifests that come, and results that go."""

from enum import StrEnum

_ENDINGS = {
    **{".csv": "csv", ".tsv": "csv", ".parquet": "parquet"},
    **{".jsonl": "jsonl", ".ndjson": "jsonl"},
}


class UnknownFormat(ValueError):
    """A name that does not say how the file is written."""


class Format(StrEnum):
    """How a list is written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"

    @property
    def content_type(self) -> str:
        """What stores are told."""
        match self:
            case Format.CSV:
                return "text/csv"
            case Format.JSONL:
                return "application/x-ndjson"
            case Format.PARQUET:
                return "application/vnd.apache.parquet"


def format_of(name: str) -> Format:
    """By the ending of its name. Raises UnknownFormat."""
    for ending, found in _ENDINGS.items():
        if name.lower().endswith(ending):
            return Format(found)
    raise UnknownFormat(f"{name}: must end with {', '.join(_ENDINGS)}, or name its --format")
