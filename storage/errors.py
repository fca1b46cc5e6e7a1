"""Every way a job can fail. The class of an error carries the decision; nothing matches strings.

`retryable` means that the same job may succeed later: it is retried with backoff, and becomes a
dead letter when its attempts are used up. Everything else ends the job as `failed` at once.
"""

from typing import ClassVar


class JobError(Exception):
    """A job did not succeed. The message is shown to users and says what to do about it."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False


class InvalidJob(JobError):
    """A field of the job cannot be understood; the message names the field."""

    code = "invalid_job"


class ObjectNotFound(JobError):
    """There is no object of that key in the store."""

    code = "object_not_found"


class ObjectTooLarge(JobError):
    """The object is larger than `EMO_MAX_OBJECT_BYTES`."""

    code = "object_too_large"


class AccessDenied(JobError):
    """The store refuses this key to these credentials, or the key leaves the store's root."""

    code = "access_denied"


class NotAudio(JobError):
    """The bytes are not audio, or not audio that can be classified (a sample is not finite)."""

    code = "not_audio"


class NoAudioStream(JobError):
    """A media file without an audio track."""

    code = "no_audio_stream"


class AudioTooShort(JobError):
    """Fewer than 400 samples at 16 kHz: not one frame."""

    code = "audio_too_short"


class AudioTooLong(JobError):
    """Longer than `EMO_MAX_AUDIO_SECONDS`."""

    code = "audio_too_long"


class DeadlineExceeded(JobError):
    """The job's `deadline_ms` passed before it was done; it ends as `expired`."""

    code = "deadline_exceeded"


class DecodeCrashed(JobError):
    """The decode process died while it worked on this file."""

    code = "decode_crashed"
    retryable = True


class StageTimeout(JobError):
    """A stage went past its time limit and was stopped."""

    code = "stage_timeout"
    retryable = True


class CrashLoop(JobError):
    """The job was delivered again and again, and never came to an end."""

    code = "crash_loop"


class OutOfMemory(JobError):
    """One clip alone does not fit the device."""

    code = "out_of_memory"
    retryable = True


class StorageUnavailable(JobError):
    """The object store cannot be reached, or answers that it cannot serve now."""

    code = "storage_unavailable"
    retryable = True


class SpoolUnavailable(JobError):
    """The worker's directory for long audio is gone, or has no room and gets none."""

    code = "spool_unavailable"
    retryable = True


class Internal(JobError):
    """A fault of ours, not of the job."""

    code = "internal"
    retryable = True
