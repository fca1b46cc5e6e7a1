"""The formats that are read, each with the codecs, rates, channels and bits that it is met with."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.support.audio_files import encode
from tests.support.handmade_audio import (
    ape,
    dsf,
    int16,
    mp1,
    mpc7,
    program_stream,
    shorten,
    speech,
    speex_flv,
    sphere,
    voc,
)

# Of samples/calm_en.wav at 32 kHz, by mpcenc of musepack-tools 0.1~r495, --quality 0.
_DATA = Path(__file__).parents[1] / "data" / "formats"
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
_DSD_RATE_HZ = 352_800


@dataclass(frozen=True)
class Row:
    """One file of the matrix, and what is known of its samples.

    `kind` is "lossless", in so many bits of `speech`; "exact", as many as were put in; "same", as
    many as ffmpeg's program finds; "longer", by what a newer ffmpeg trims of the last frame.
    """

    name: str
    demuxer: str
    decoder: str
    make: Callable[[], bytes]
    sample_rate_hz: int
    channels: int = 1
    kind: str = "same"
    bits: int = 0


@functools.cache
def rows() -> list[Row]:
    """All of it."""
    return [*_written(), *_by_hand()]


# Each line: demuxer, muxer?options, encoder:sample format?options, decoder, bits or kind, rates in
# kHz, channels.
_WRITTEN = """
wav wav pcm_s16le pcm_s16le 16 8,11.025,16,22.05,32,44.1,48,96,192 1,2
wav wav pcm_s16le pcm_s16le 16 16,48 6
wav wav pcm_u8 pcm_u8 8 8,16,44.1 1,2
wav wav pcm_s24le pcm_s24le 24 16,48 1,2
wav wav pcm_s32le pcm_s32le 24 16,44.1 1,2
wav wav pcm_s64le pcm_s64le 24 16 1,2
wav wav pcm_f32le pcm_f32le 24 16,48 1,2
wav wav pcm_f64le pcm_f64le 24 16,44.1 1,2
wav wav pcm_alaw pcm_alaw exact 8,16 1,2
wav wav pcm_mulaw pcm_mulaw exact 8,16 1,2
wav wav adpcm_ms adpcm_ms same 8,22.05 1,2
wav wav adpcm_ima_wav adpcm_ima_wav same 8,22.05 1,2
wav wav adpcm_yamaha adpcm_yamaha same 8,22.05 1,2
wav wav g722 g722 same 16 1
wav wav g723_1?b=6300 g723_1 same 8 1
wav wav g726 g726 same 8 1
wav wav libmp3lame mp3float same 16,44.1 1,2
wav wav?rf64=always pcm_s16le pcm_s16le 16 16,44.1 1
w64 w64 pcm_s16le pcm_s16le 16 8,16,48 1,2
w64 w64 pcm_f32le pcm_f32le 24 48 2
w64 w64 pcm_mulaw pcm_mulaw exact 8 1
aiff aiff pcm_s8 pcm_s8 8 22.05 1
aiff aiff pcm_s16be pcm_s16be 16 8,16,44.1,48 1,2
aiff aiff pcm_s24be pcm_s24be 24 44.1 2
aiff aiff pcm_s32be pcm_s32be 24 44.1 2
aiff aiff pcm_s16le pcm_s16le 16 44.1 2
aiff aiff pcm_f32be pcm_f32be 24 44.1 2
aiff aiff pcm_f64be pcm_f64be 24 44.1 1
aiff aiff pcm_mulaw pcm_mulaw exact 8 1
aiff aiff pcm_alaw pcm_alaw exact 8 1
aiff aiff adpcm_ima_qt adpcm_ima_qt same 22.05 1,2
au au pcm_mulaw pcm_mulaw exact 8,16 1,2
au au pcm_alaw pcm_alaw exact 8 1
au au pcm_s8 pcm_s8 8 8 1
au au pcm_s16be pcm_s16be 16 8,16,44.1 1,2
au au pcm_s24be pcm_s24be 24 48 2
au au pcm_s32be pcm_s32be 24 48 2
au au pcm_f32be pcm_f32be 24 48 2
caf caf pcm_s16be pcm_s16be 16 16,44.1 1,2
caf caf pcm_s16le pcm_s16le 16 16,44.1 1,2
caf caf pcm_s24le pcm_s24le 24 48 2
caf caf pcm_f32le pcm_f32le 24 48 2
caf caf pcm_mulaw pcm_mulaw exact 8 1
caf caf alac alac 16 16,44.1 1,2
caf caf adpcm_ima_qt adpcm_ima_qt same 44.1 1,2
caf caf flac flac 16 44.1 2
voc voc pcm_u8 pcm_u8 8 8 1,2
voc voc pcm_s16le pcm_s16le 16 8,16,44.1 1,2
voc voc pcm_alaw pcm_alaw exact 8 1
voc voc pcm_mulaw pcm_mulaw exact 8 1
flac flac flac flac 16 8,11.025,16,22.05,44.1,48,96 1,2
flac flac flac flac 16 48 6
flac flac flac:s32 flac 24 16,48,96 1,2
wv wv wavpack:s16p wavpack 16 8,16,44.1 1,2
wv wv wavpack:s16p wavpack 16 48 6
wv wv wavpack:u8p wavpack 8 8 1
wv wv wavpack:s32p wavpack 24 48 2
wv wv wavpack:fltp wavpack 24 48 1,2
tta tta tta tta 8 8 1
tta tta tta:s16 tta 16 8,16,44.1,48 1,2
tta tta tta:s32 tta 24 48 2
mp3 mp3 libmp3lame mp3float exact 8,11.025,16,22.05,32,44.1,48 1,2
mp3 mp2 mp2 mp2 same 16,22.05,32,44.1,48 1,2
ogg ogg libopus opus exact 8,12,16,24,48 1,2
ogg ogg libopus opus exact 48 6
ogg ogg flac flac 16 16,44.1 1,2
ogg ogg vorbis?strict=experimental vorbis same 16,44.1,48 2
aac adts aac aac same 8,11.025,16,22.05,44.1,48 1,2
aac adts aac aac same 48 6
loas latm aac aac_latm same 8,16,44.1,48 1,2
ac3 ac3 ac3 ac3 same 32,44.1,48 1,2,6
eac3 eac3 eac3 eac3 same 32,44.1,48 1,2,6
amr amr libopencore_amrnb amrnb same 8 1
mov ipod aac aac longer 8,16,22.05,44.1,48 1,2
mov ipod alac alac 16 16,44.1,48 1,2
mov ipod alac:s32p alac 24 48 2
mov mp4 aac aac longer 48 6
mov mp4 libmp3lame mp3float longer 16,44.1 1,2
mov mp4 libopus opus same 48 1,2
mov mp4 flac flac 16 16,44.1 1,2
mov mp4 ac3 ac3 longer 48 2,6
mov mp4 eac3 eac3 longer 48 2,6
mov mov pcm_s16le pcm_s16le 16 16,44.1 1,2
mov mov pcm_s16be pcm_s16be 16 16,44.1 1,2
mov mov pcm_s24le pcm_s24le 24 48 2
mov mov pcm_f32le pcm_f32le 24 48 2
mov mov pcm_mulaw pcm_mulaw exact 8 1
mov mov pcm_alaw pcm_alaw exact 8 1
mov mov adpcm_ima_qt adpcm_ima_qt same 22.05 1,2
mov 3gp libopencore_amrnb amrnb same 8 1
mov 3gp aac aac longer 16 1
matroska matroska pcm_s16le pcm_s16le 16 16,44.1 1,2
matroska matroska pcm_f32le pcm_f32le 24 48 2
matroska matroska flac flac 16 16,44.1 1,2
matroska matroska aac aac same 16,44.1 1,2
matroska matroska libmp3lame mp3float same 16,44.1 1,2
matroska matroska ac3 ac3 same 48 2,6
matroska matroska tta:s16 tta 16 44.1 2
matroska matroska wavpack:s16p wavpack 16 44.1 2
matroska matroska alac alac 16 44.1 2
matroska webm libopus opus same 8,16,48 1,2
matroska webm vorbis?strict=experimental vorbis same 48 2
asf asf wmav1?b=48000 wmav1 same 16,44.1 1,2
asf asf wmav2?b=48000 wmav2 same 16,22.05,44.1,48 1,2
asf asf pcm_s16le pcm_s16le same 16 1
asf asf libmp3lame mp3float same 44.1 2
avi avi pcm_s16le pcm_s16le 16 16,44.1 1,2
avi avi pcm_mulaw pcm_mulaw exact 8 1
avi avi libmp3lame mp3float same 16,44.1 1,2
avi avi mp2 mp2 same 44.1 2
avi avi ac3 ac3 same 48 2
avi avi aac aac same 44.1 2
avi avi adpcm_ms adpcm_ms same 22.05 1
avi avi adpcm_ima_wav adpcm_ima_wav same 22.05 1
flv flv aac aac same 16,22.05,44.1,48 1,2
flv flv libmp3lame mp3float same 11.025,22.05,44.1 1,2
flv flv pcm_s16le pcm_s16le 16 11.025,22.05,44.1 1,2
flv flv pcm_u8 pcm_u8 8 11.025 1
flv flv pcm_mulaw pcm_mulaw exact 8 1
flv flv pcm_alaw pcm_alaw exact 8 1
flv flv nellymoser nellymoser same 8,11.025,16,22.05,44.1 1
mpeg mpeg mp2 mp2 same 32,44.1,48 1,2
mpeg mpeg libmp3lame mp3float same 44.1 2
mpeg vcd mp2 mp2 same 44.1 2
mpeg vob ac3 ac3 same 48 1,2,6
mpeg vob pcm_dvd pcm_dvd same 48 1,2
mpegts mpegts mp2 mp3float same 44.1,48 1,2
mpegts mpegts libmp3lame mp3float same 44.1 2
mpegts mpegts aac aac same 44.1,48 1,2
mpegts mpegts ac3 ac3 same 48 2,6
mpegts mpegts eac3 eac3 same 48 2
mpegts mpegts libopus opus same 48 2
mpegts mpegts?mpegts_flags=latm aac aac_latm same 48 1,2
mpegts mpegts?mpegts_m2ts_mode=1 pcm_bluray pcm_bluray same 48 2
"""


def _written() -> list[Row]:
    """What PyAV writes."""
    made = []
    for line in filter(None, _WRITTEN.split("\n")):
        demuxer, muxer, encoder, decoder, kind, rates, channels = line.split()
        for rate, each in product(rates.split(","), channels.split(",")):
            rate_hz, count = round(1_000 * float(rate)), int(each)
            made.append(
                Row(
                    name=f"{muxer} {encoder} {rate} kHz {LAYOUTS[count]}",
                    demuxer=demuxer,
                    decoder=decoder,
                    make=partial(_encode, muxer, encoder, rate_hz, count),
                    sample_rate_hz=rate_hz,
                    channels=count,
                    kind="lossless" if kind.isdigit() else kind,
                    bits=int(kind) if kind.isdigit() else 0,
                )
            )
    return made


def _encode(muxer: str, encoder: str, sample_rate_hz: int, channels: int) -> bytes:
    container, container_options = _options(muxer)
    codec, codec_options = _options(encoder)
    codec, _, sample_format = codec.partition(":")
    return encode(
        speech(sample_rate_hz, channels),
        sample_rate_hz,
        container=container,
        codec=codec,
        layout=LAYOUTS[channels],
        sample_format=sample_format or None,
        container_options=container_options,
        codec_options=codec_options,
    )


def _options(text: str) -> tuple[str, dict[str, str]]:
    """A name, and the options behind its question mark."""
    name, _, options = text.partition("?")
    return name, dict(option.split("=") for option in options.split("&") if option)


def _by_hand() -> Iterator[Row]:
    """What PyAV does not write."""
    yield from _spheres()
    for name, codec, decoder in (
        ("4 bits", 1, "adpcm_sbpro_4"),
        ("2.6 bits", 2, "adpcm_sbpro_3"),
        ("2 bits", 3, "adpcm_sbpro_2"),
        ("4 bits of 16", 0x200, "adpcm_ct"),
    ):
        yield Row(name, "voc", decoder, partial(voc, codec, _noise(4_000), 8_000), 8_000)
    for name, low_bit_first in (("dsd_lsbf_planar", True), ("dsd_msbf_planar", False)):
        for channels in (1, 2):
            sound = partial(speech, _DSD_RATE_HZ, channels, 0.3)
            make = partial(_dsf, sound, low_bit_first)
            yield Row(f"{name} {channels}", "dsf", name, make, _DSD_RATE_HZ, channels)
    yield Row("layer I", "mp3", "mp1", partial(mp1, 100), 32_000)
    yield Row("layer I", "mpeg", "mp1", lambda: program_stream(mp1(100)), 32_000)
    yield Row("speex", "flv", "speex", partial(speex_flv, 50), 16_000)
    yield Row("version 3.89", "ape", "ape", partial(ape, 9_000, 16_000), 16_000)
    yield Row("stream version 7", "mpc", "mpc7", partial(mpc7, 40), 44_100, 2)
    yield Row("stream version 8", "mpc8", "mpc8", (_DATA / "speech.mpc").read_bytes, 32_000)


def _spheres() -> Iterator[Row]:
    """NIST SPHERE, in each of its codings."""

    def law(name: str) -> bytes:
        about = dict.fromkeys(["sample_n_bytes", "sample_byte_format"], "-i 1")
        return sphere(_noise(8_000), 8_000, 1, sample_coding=f"-s4 {name}", **about)

    def linear(kind: str, order: str, sample_rate_hz: int, channels: int) -> bytes:
        data = int16(speech(sample_rate_hz, channels), kind)
        return sphere(data, sample_rate_hz, channels, sample_byte_format=f"-s2 {order}")

    def shortened() -> bytes:
        stream = shorten(np.frombuffer(int16(speech(16_000)), "<i2"))
        return sphere(stream, 16_000, sample_coding="-s26 pcm,embedded-shorten-v2.00")

    lossless = partial(Row, demuxer="nistsphere", kind="lossless", bits=16)
    for rate_hz, channels in product((8_000, 16_000), (1, 2)):
        for decoder, kind, order in (("pcm_s16le", "<i2", "01"), ("pcm_s16be", ">i2", "10")):
            make = partial(linear, kind, order, rate_hz, channels)
            name = f"{decoder} {rate_hz} Hz, {LAYOUTS[channels]}"
            yield lossless(
                name, decoder=decoder, make=make, sample_rate_hz=rate_hz, channels=channels
            )
    yield lossless("shorten", decoder="shorten", make=shortened, sample_rate_hz=16_000)
    yield Row("mu-law", "nistsphere", "pcm_mulaw", partial(law, "ulaw"), 8_000)
    yield Row("A-law", "nistsphere", "pcm_alaw", partial(law, "alaw"), 8_000)


def _dsf(sound: Callable[[], NDArray[np.float32]], low_bit_first: bool) -> bytes:
    return dsf(sound(), low_bit_first=low_bit_first)


def _noise(size: int) -> bytes:
    return np.random.default_rng(2).bytes(size)
