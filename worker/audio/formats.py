"""What is opened, and how it becomes mono: the same for FFmpeg's libraries and its command line.

docs/formats.md says what each of them is, and what is not here and why.
"""

from collections.abc import Mapping

# No playlists (hls, dash, sdp, concat: they open other files), and no raw formats that are
# recognised by luck (amrnb took a web page for ten seconds of speech).
FORMATS = (
    "wav,w64,aiff,au,caf,voc,nistsphere,flac,wv,tta,ape,dsf,mp3,ogg,aac,loas,ac3,eac3,amr,mpc,mpc8,"
    "mov,matroska,asf,avi,flv,mpeg,mpegts"
)

# What these carry sound in. FFmpeg has five hundred more decoders, of pictures and of old games,
# which a hostile file could call for.
DECODERS = (
    "pcm_alaw,pcm_mulaw,pcm_s8,pcm_u8,pcm_s16be,pcm_s16le,pcm_u16be,pcm_u16le,pcm_s24be,pcm_s24le,"
    "pcm_u24be,pcm_u24le,pcm_s32be,pcm_s32le,pcm_u32be,pcm_u32le,pcm_s64be,pcm_s64le,pcm_f32be,"
    "pcm_f32le,pcm_f64be,pcm_f64le,pcm_bluray,pcm_dvd,adpcm_ct,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,"
    "adpcm_sbpro_2,adpcm_sbpro_3,adpcm_sbpro_4,adpcm_yamaha,dsd_lsbf_planar,dsd_msbf_planar,g722,"
    "g723_1,g726,g726le,g729,gsm,gsm_ms,ilbc,qcelp,evrc,truespeech,nellymoser,amrnb,amrwb,"
    "libopencore_amrnb,libopencore_amrwb,speex,libspeex,opus,libopus,vorbis,libvorbis,mp1,mp1float,"
    "mp2,mp2float,mp3,mp3float,mpc7,mpc8,aac,aac_latm,ac3,eac3,dca,mlp,truehd,alac,ape,flac,shorten,"
    "tta,wavpack,wmav1,wmav2,wmapro,wmalossless,wmavoice"
)


# The command line would mix each surround file by levels of its own, 0.36 dB away from what the
# libraries do.
MIXED_ALIKE = {"mode": "delete", "type": "DOWNMIX_INFO"}  # of the `asidedata` filter


# Layouts of which `aresample` hears every channel, but for what is there for a subwoofer. Of others
# it leaves channels out, or refuses them; and where a file does not say which channel is which, it
# takes the fourth of six for a subwoofer.
_MIXED_BY_PLACE = frozenset(
    (
        *("0 channels", "1 channels", "2 channels", "mono", "stereo", "downmix", "2.1", "3.0"),
        *("3.0(back)", "3.1", "3.1.2", "4.0", "4.1", "quad", "quad(side)", "5.0", "5.0(side)"),
        *("5.1", "5.1(side)", "5.1.2", "5.1.2(back)", "6.0", "6.0(front)", "6.1", "6.1(back)"),
        *("6.1(front)", "hexagonal", "7.0", "7.0(front)", "7.1", "7.1(wide)", "7.1(wide-side)"),
        *("7.1.2", "octagonal"),
    )
)
_MOST_MIXED = 64  # inputs that `pan` takes

# Filters before `aresample` that mix all channels in equal parts, however many there are: `<`
# divides by as many. In float, since `pan` stays in the format that it gets.
ALIKE: tuple[tuple[str, dict[str, str]], ...] = (
    ("aresample", {"osf": "fltp"}),
    ("pan", {"args": "mono|c0<" + "+".join(f"c{channel}" for channel in range(_MOST_MIXED))}),
)


def counts_alike(layout: str) -> bool:
    """Whether the channels of a layout, by FFmpeg's name for it, are to be mixed in equal parts."""
    return layout not in _MIXED_BY_PLACE


def resample_options(sample_rate_hz: int, sample_format: str = "flt") -> dict[str, str]:
    """Arguments of the `aresample` filter that does both steps, downmix and resampling.

    Stereo becomes 0.5 (L + R). Every other way to mono gives float samples 0.707 (L + R): 3 dB
    more, and clipping.
    """
    rate = str(sample_rate_hz)
    return {"osr": rate, "ochl": "mono", "osf": sample_format, "rematrix_maxval": "1.0"}


def pick_options(channel: int) -> dict[str, str]:
    """Arguments of the `channelmap` filter that leaves one channel, counted from 0, as it is."""
    return {"map": str(channel), "channel_layout": "mono"}


def as_text(options: Mapping[str, str]) -> str:
    """A filter's arguments as FFmpeg reads them."""
    return ":".join(f"{name}={value}" for name, value in options.items())


def command_line_filters(sample_rate_hz: int) -> str:
    """Filters of ffmpeg's command line that do the same to all channels."""
    alike = f"asidedata={as_text(MIXED_ALIKE)}"
    return f"{alike},aresample={as_text(resample_options(sample_rate_hz))}"
