"""Transfers to and from an S3 server: multipart uploads, and reads of ranges.

The SDK has all calls of a multipart upload, under names that begin with `_`: its public
`put_object` asks for the whole object at once.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from storage.errors import InvalidJob, ObjectNotFound
from storage.objects.s3 import S3Store
from storage.objects.s3_errors import translated
from storage.objects.transfers import PART_BYTES, READ_BYTES

_LISTED = 1000  # parts in one answer


class S3Transfers:
    """See `Transfers`."""

    def __init__(self, store: S3Store) -> None:
        self._client = store.client
        self._bucket = store.bucket

    def begin(self, key: str) -> str:
        """See `Transfers.begin`."""
        with translated(self._where(key), key):
            return self._client._create_multipart_upload(
                self._bucket, key, {"Content-Type": "application/octet-stream"}
            )

    def parts(self, key: str, upload: str) -> int:
        """See `Transfers.parts`."""
        with translated(self._where(key), key):
            sizes = {number: size for number, _, size in self._listed(key, upload)}
        whole = 0
        while sizes.get(whole + 1) == PART_BYTES:
            whole += 1
        return whole

    def append(self, key: str, upload: str, number: int, data: bytes) -> None:
        """See `Transfers.append`."""
        with translated(self._where(key), key):
            self._client._upload_part(self._bucket, key, data, None, upload, number + 1)

    def finish(self, key: str, upload: str, size: int) -> None:
        """See `Transfers.finish`."""
        where = self._where(key)
        try:
            with translated(where, key):
                listed = self._listed(key, upload)
        except ObjectNotFound:
            if self.size(key) == size:
                return  # an earlier call did it
            raise
        found = sum(length for _, _, length in listed)
        if found != size:
            raise InvalidJob(f"{where}: {found} bytes have come, not {size}; send the rest first")
        with translated(where, key):
            self._client._complete_multipart_upload(
                self._bucket, key, upload, [part for _, part, _ in listed]
            )

    def abort(self, key: str, upload: str) -> None:
        """See `Transfers.abort`."""
        with suppress(ObjectNotFound), translated(self._where(key), key):
            self._client._abort_multipart_upload(self._bucket, key, upload)

    def size(self, key: str) -> int:
        """See `Transfers.size`."""
        with translated(self._where(key), key):
            return self._client.stat_object(self._bucket, key).size or 0

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """See `Transfers.read`."""
        with translated(self._where(key), key):
            response = self._client.get_object(self._bucket, key, offset=start, length=length)
            try:
                yield from response.stream(READ_BYTES)
            finally:
                response.close()
                response.release_conn()

    def _where(self, key: str) -> str:
        return f"bucket {self._bucket!r}, key {key!r}"

    def _listed(self, key: str, upload: str) -> list[tuple[int, Any, int]]:
        """The number, the part and its size, of all parts that have come."""
        found: list[tuple[int, Any, int]] = []
        marker: str | None = None
        while True:
            listed = self._client._list_parts(
                self._bucket, key, upload, max_parts=_LISTED, part_number_marker=marker
            )
            found += [(part.part_number, part, part.size or 0) for part in listed.parts]
            if not listed.is_truncated or not listed.parts:
                return sorted(found, key=lambda each: each[0])
            marker = str(listed.parts[-1].part_number)
