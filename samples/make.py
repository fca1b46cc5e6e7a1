"""Make the sample clips again: `python samples/make.py`.

Needs `espeak-ng` on the PATH; ffmpeg comes with the `imageio-ffmpeg` package. The clips lie in the
repository, so nothing else runs this.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

SAMPLES = Path(__file__).parent

# To FFmpeg a picture in a tag is a video stream; many ordinary mp3 files carry one.
COVER = "gradients=s=96x96:d=0.04:n=2:c0=#1d3557:c1=#e9c46a:x0=0:y0=0:seed=7"
COVER_INPUT = ["-f", "lavfi", "-i", COVER]
COVER_OUTPUT = ["-c:v", "png", "-disposition:v", "attached_pic"]


@dataclass(frozen=True)
class Voice:
    """How espeak-ng speaks: its voice's name, pitch 0-99, speed in words a minute."""

    name: str
    pitch: int = 50
    words_per_minute: int = 165


@dataclass(frozen=True)
class Clip:
    """One file: who says what, and the ffmpeg output options that make its format.

    Several speakers take turns, the first on the left channel and the second on the right.
    """

    file: str
    lines: list[tuple[Voice, str]]
    encode: list[str]
    cover: bool = False


CLIPS = [
    Clip(
        "calm_en.wav",
        [(Voice("en-gb+f3", 42, 140), "The harbour is quiet, and the lamps are lit.")],
        ["-c:a", "pcm_s16le", "-ar", "16000", "-ac", "1"],
    ),
    Clip(
        "excited_en.mp3",
        [
            (
                Voice("en-us+f4", 85, 215),
                "We won! We really won! Quick, call everyone and tell them!",
            )
        ],
        ["-c:a", "libmp3lame", "-b:a", "64k", "-ar", "44100", "-ac", "1", "-id3v2_version", "3"],
        cover=True,
    ),
    Clip(
        "angry_de.m4a",
        [(Voice("de+m7", 25, 190), "Jetzt reicht es! Das ist schon das dritte Mal diese Woche!")],
        ["-c:a", "aac", "-b:a", "48k", "-ar", "32000", "-ac", "1"],
    ),
    Clip(
        "question_fr.opus",
        [(Voice("fr-fr+f2", 60, 160), "Pardon, à quelle heure part le dernier bateau ?")],
        ["-c:a", "libopus", "-b:a", "24k", "-ac", "1"],
    ),
    Clip(
        "sad_en.flac",
        [
            (
                Voice("en-gb+m3", 22, 115),
                "The house feels empty now. I keep her letters in a drawer.",
            )
        ],
        ["-c:a", "flac", "-ar", "16000", "-ac", "1"],
    ),
    Clip(
        "voicemail_es.wav",
        [(Voice("es+m1", 48, 170), "Hola, soy yo. Llego tarde, empezad a cenar sin mí.")],
        ["-c:a", "pcm_mulaw", "-ar", "8000", "-ac", "1"],
    ),
    Clip(
        "dialogue_it.ogg",
        [
            (Voice("it+f3", 58, 165), "Hai chiuso la finestra della cucina?"),
            (Voice("it+m2", 35, 165), "Sì, un'ora fa, quando ha cominciato a piovere."),
        ],
        ["-c:a", "libvorbis", "-q:a", "0", "-ar", "44100"],
    ),
    Clip(
        "surprised_zh.webm",
        [(Voice("cmn+f1", 75, 180), "哎呀，下雪了！你快看窗外！")],
        ["-c:a", "libopus", "-b:a", "32k", "-ac", "1"],
    ),
]


def speak(voice: Voice, text: str, wav: Path) -> None:
    """Write `text`, spoken, to `wav`: 22.05 kHz mono pcm16."""
    speed = ["-p", str(voice.pitch), "-s", str(voice.words_per_minute)]
    subprocess.run(["espeak-ng", "-v", voice.name, *speed, "-w", str(wav), text], check=True)


def encode(clip: Clip, wavs: list[Path], output: Path) -> None:
    """Lay the spoken lines out one after another and write them in the clip's format."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
    for wav in wavs:
        command += ["-i", str(wav)]
    if len(wavs) > 1:
        turns = "[0]pan=stereo|c0=c0[l];[1]pan=stereo|c1=c0[r];[l][r]concat=n=2:v=0:a=1[turns]"
        command += ["-filter_complex", turns, "-map", "[turns]"]
    elif clip.cover:
        command += [*COVER_INPUT, "-map", "0:a", "-map", "1:v", *COVER_OUTPUT]
    # Encoders sign their files with a version and a random serial: leave both out.
    exact = ["-fflags", "+bitexact", "-flags:a", "+bitexact", "-map_metadata", "-1"]
    title = ["-metadata", f"title={output.stem}", "-metadata", "artist=emostream"]
    subprocess.run([*command, *exact, *title, *clip.encode, str(output)], check=True)


def main() -> None:
    """Make every clip."""
    if shutil.which("espeak-ng") is None:
        sys.exit("espeak-ng is not on the PATH: install it, on Debian with `apt install espeak-ng`")
    with tempfile.TemporaryDirectory() as directory:
        for clip in CLIPS:
            wavs = [Path(directory, f"{turn}.wav") for turn in range(len(clip.lines))]
            for (voice, text), wav in zip(clip.lines, wavs, strict=True):
                speak(voice, text, wav)
            encode(clip, wavs, SAMPLES / clip.file)


if __name__ == "__main__":
    main()
