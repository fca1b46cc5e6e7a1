"""The same tone in every format that is read."""

from collections.abc import Callable
from functools import partial

from tests.support.audio_files import encode, id3_with_cover, m4a, mp3, pcm16, tone, wav
from tests.support.handmade_audio import dsf, sphere

SECONDS = 2.0
FORMATS: dict[str, Callable[[], bytes]] = {
    "wav 8 bits": lambda: encode(tone(SECONDS), 16_000, container="wav", codec="pcm_u8"),
    "wav 16 bits": lambda: wav(pcm16(tone(SECONDS))),
    "wav 24 bits": lambda: encode(tone(SECONDS), 16_000, container="wav", codec="pcm_s24le"),
    "wav 32 bits": lambda: encode(tone(SECONDS), 16_000, container="wav", codec="pcm_s32le"),
    "wav float": lambda: wav(tone(SECONDS).tobytes(), form=3, bits=32),
    "wav double": lambda: encode(tone(SECONDS), 16_000, container="wav", codec="pcm_f64le"),
    "wav mu-law 8 kHz": lambda: encode(
        tone(SECONDS, 8_000), 8_000, container="wav", codec="pcm_mulaw"
    ),
    "mp3 stereo": partial(mp3, SECONDS, layout="stereo"),
    "mp3 with cover": lambda: id3_with_cover(b"title", bytes(50_000)) + mp3(SECONDS),
    "m4a": partial(m4a, SECONDS),
    "opus": lambda: encode(tone(SECONDS, 48_000), 48_000, container="ogg", codec="libopus"),
    "flac": lambda: encode(tone(SECONDS, 44_100), 44_100, container="flac", codec="flac"),
    "aac": lambda: encode(tone(SECONDS, 44_100), 44_100, container="adts", codec="aac"),
    "ac3": lambda: encode(tone(SECONDS, 48_000), 48_000, container="ac3", codec="ac3"),
    "aiff": lambda: encode(tone(SECONDS, 44_100), 44_100, container="aiff", codec="pcm_s16be"),
    "au": lambda: encode(tone(SECONDS, 8_000), 8_000, container="au", codec="pcm_mulaw"),
    "caf with alac": lambda: encode(tone(SECONDS, 44_100), 44_100, container="caf", codec="alac"),
    "mp2 in mpegts": lambda: encode(tone(SECONDS, 44_100), 44_100, container="mpegts", codec="mp2"),
    "mp3 in avi": lambda: encode(
        tone(SECONDS, 44_100), 44_100, container="avi", codec="libmp3lame"
    ),
    "opus in webm": lambda: encode(
        tone(SECONDS, 48_000), 48_000, container="webm", codec="libopus"
    ),
    "tta in matroska": lambda: encode(
        tone(SECONDS, 44_100), 44_100, container="matroska", codec="tta"
    ),
    "wavpack in matroska": lambda: encode(
        tone(SECONDS, 44_100), 44_100, container="matroska", codec="wavpack"
    ),
    "w64": lambda: encode(tone(SECONDS, 44_100), 44_100, container="w64", codec="pcm_s16le"),
    "eac3": lambda: encode(tone(SECONDS, 48_000), 48_000, container="eac3", codec="eac3"),
    "aac in flv": lambda: encode(tone(SECONDS, 44_100), 44_100, container="flv", codec="aac"),
    "nellymoser in flv": lambda: encode(
        tone(SECONDS, 22_050), 22_050, container="flv", codec="nellymoser"
    ),
    "mp2 in mpeg": lambda: encode(tone(SECONDS, 48_000), 48_000, container="mpeg", codec="mp2"),
    "pcm in vob": lambda: encode(tone(SECONDS, 48_000), 48_000, container="vob", codec="pcm_dvd"),
    "aac in loas": lambda: encode(tone(SECONDS, 44_100), 44_100, container="latm", codec="aac"),
    "voc": lambda: encode(tone(SECONDS, 16_000), 16_000, container="voc", codec="pcm_s16le"),
    "wavpack": lambda: encode(tone(SECONDS, 44_100), 44_100, container="wv", codec="wavpack"),
    "tta": lambda: encode(tone(SECONDS, 44_100), 44_100, container="tta", codec="tta"),
    "dsf": lambda: dsf(tone(SECONDS, 352_800)[None]),
    "sphere": lambda: sphere(pcm16(tone(SECONDS)), 16_000),
    "amr": lambda: encode(tone(SECONDS, 8_000), 8_000, container="amr", codec="libopencore_amrnb"),
}


def made(name: str) -> bytes:
    """A file in one of FORMATS; the wheels of PyAV have every encoder that is needed."""
    return FORMATS[name]()
