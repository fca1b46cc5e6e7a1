"""What is opened, and how it becomes mono: the same for FFmpeg's libraries and its command line."""

# No playlists (hls, dash, sdp, concat: they open other files), and no raw formats that are
# recognised by luck (amrnb took a web page for ten seconds of speech).
FORMATS = "wav,w64,aiff,au,caf,flac,mp3,ogg,aac,ac3,amr,mov,matroska,asf,avi,mpegts"


def resample_options(sample_rate_hz: int) -> str:
    """Arguments of the `aresample` filter that does both steps, downmix and resampling.

    Stereo becomes 0.5 (L + R). Every other way to mono gives float samples 0.707 (L + R): 3 dB
    more, and clipping.
    """
    return f"{sample_rate_hz}:ochl=mono:osf=flt:rematrix_maxval=1.0"
