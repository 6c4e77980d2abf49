"""Rows name only what they may: no way out of the manifest's folder, no machine within, nothing endless."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from runs import write_beeps

from ltx_ray.config import InputsConfig, RenderConfig
from ltx_ray.errors import MediaError
from ltx_ray.manifest.content import RawRow
from ltx_ray.manifest.row import RowError
from ltx_ray.manifest.shot import parse_row
from ltx_ray.media.access import Access
from ltx_ray.media.addresses import refusal
from ltx_ray.media.audio import probe_audio, read_audio
from ltx_ray.media.image import probe_image, read_image
from ltx_ray.media.source import open_bytes
from ltx_ray.redact import redacted

FILE = "file" + "://"
ROW = {"id": "a", "prompt": "a red circle", "num_frames": 9}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest's folder with a sound, beside a secret."""
    made = tmp_path / "shots"
    made.mkdir()
    write_beeps(made / "beeps.wav", 1.0)
    write_beeps(tmp_path / "secret.wav", 1.0)
    return made


def access(folder: Path, **limits: Any) -> Access:
    return Access.of_rows(str(folder), InputsConfig(**limits))


def refused_row(folder: Path | str, path: str, **inputs: Any) -> str:
    """Why a row that names ``path`` is rejected."""
    config = RenderConfig.model_validate({"inputs": inputs})
    with pytest.raises(RowError) as caught:
        parse_row(RawRow(number=1, values=ROW | {"audio": path}), config, str(folder))
    assert caught.value.fields == ("audio",)
    return str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "../secret.wav",
        "a/../../secret.wav",
        "/etc/passwd",
        "/proc/self/environ",
        "//etc/passwd",
        "~/../secret.wav",
    ],
)
def test_a_path_out_of_the_folder_is_refused(folder: Path, path: str) -> None:
    if path.startswith("~"):  # no shell: a folder of that name, and out of it
        path = "~/../../secret.wav"
    assert "a local file must lie in the manifest's folder" in refused_row(folder, path)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (FILE + "/etc/passwd", "must be named by its path"),
        ("local:///etc/passwd", "must be named by its path"),
        ("http://169.254.169.254/latest/meta-data/", "of an allowed scheme"),
        ("https://169.254.169.254/latest/meta-data/", "169.254.169.254 is link-local"),
        ("https://127.0.0.1/x.wav", "127.0.0.1 is loopback"),
        ("https://[::1]/x.wav", "::1 is loopback"),
        ("https://[::ffff:10.0.0.1]/x.wav", "is private or reserved"),
        ("https://10.0.0.1:9000/x.wav", "10.0.0.1 is private"),
        ("https://user:word@192.168.1.1/x.wav?token=abc", "got https://...@192.168.1.1/x.wav?..."),
        ("https:///x.wav", "must name a host"),
        ("https://[::1/x.wav", "must be a path or a URL"),
        ("ftp://example.org/x.wav", "of an allowed scheme"),
        ("memory://x.wav", "of an allowed scheme"),
        ("s3://private/x.wav", "of an allowed scheme (https; inputs.schemes"),
        ("https://2130706433/x.wav", "must be written in full"),
        ("https://127.1/x.wav", "must be written in full"),
        ("https://0x7f000001/x.wav", "must be written in full"),
        ("github://org:repo@main/x.wav", "of an allowed scheme"),
        ("zip://x.wav::https://example.org/a.zip", "by one path or URL, got the chain"),
        ("simplecache::s3://bucket/x.wav", "by one path or URL, got the chain"),
        ("filecache::/etc/passwd", "by one path or URL, got the chain"),
        ("javascript://x", "of an allowed scheme"),
    ],
)
def test_a_url_that_must_not_be_read_is_refused_by_its_name(folder: Path, url: str, reason: str) -> None:
    told = refused_row(folder, url)
    assert reason in told
    assert "word" not in told
    assert "abc" not in told


def test_what_may_be_read_is(folder: Path, tmp_path: Path) -> None:
    config = RenderConfig.model_validate({"inputs": {"roots": [str(tmp_path), "s3://bucket"]}})
    for path in ("beeps.wav", "./beeps.wav", str(folder / "beeps.wav"), "../secret.wav", "s3://bucket/x.wav"):
        shot = parse_row(RawRow(number=1, values=ROW | {"audio": path}), config, str(folder))
        assert shot.audio is not None
    bucket = parse_row(RawRow(number=1, values=ROW | {"audio": "x.wav"}), config, "memory://bucket/shots")
    assert bucket.audio == "memory://bucket/shots/x.wav"
    assert "of an allowed scheme" in refused_row("memory://bucket/shots", "memory://bucket/other/x.wav")
    assert "of an allowed scheme" in refused_row("memory://bucket/shots", "memory://bucket/shots/../x.wav")


def test_links_lead_nowhere_else(folder: Path, tmp_path: Path) -> None:
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    (folder / "up").symlink_to(tmp_path)
    (folder / "fine.wav").symlink_to(folder / "beeps.wav")
    for path in ("link.wav", "up/secret.wav"):
        with pytest.raises(MediaError, match=r"secret.wav, which leads to|which leads to .*secret.wav"):
            probe_audio(str(folder / path), access(folder))
    assert probe_audio(str(folder / "fine.wav"), access(folder)).seconds == pytest.approx(1.0)
    assert probe_audio(str(folder / "up/secret.wav"), access(tmp_path)).rate == 22_050


def test_pipes_devices_and_folders_are_no_media(folder: Path) -> None:
    os.mkfifo(folder / "pipe.wav")
    (folder / "zero.wav").symlink_to("/dev/zero")
    with pytest.raises(MediaError, match=r"must be a regular file, got .*pipe.wav: it is a pipe or a device"):
        open_bytes(str(folder / "pipe.wav"), access(folder))
    with pytest.raises(MediaError, match="which leads to /dev/zero"):
        open_bytes(str(folder / "zero.wav"), access(folder))
    with pytest.raises(MediaError, match="it is a pipe or a device"):
        open_bytes("/dev/zero", access(folder, roots=("/dev",)))
    with pytest.raises(MediaError, match="it is a folder"):
        open_bytes(str(folder), access(folder))


def test_limits_hold_before_anything_is_decoded(folder: Path) -> None:
    sound, picture = str(folder / "beeps.wav"), folder / "large.png"
    Image.new("L", (3000, 3000)).save(picture)
    with pytest.raises(MediaError, match=r"at most 1,000 bytes \(inputs.max_bytes .*, got .* with 44,144 or"):
        probe_audio(sound, access(folder, max_bytes=1000))
    with pytest.raises(MediaError, match=r"at most 0.5 s \(inputs.max_audio_seconds"):
        probe_audio(sound, access(folder, max_audio_seconds=0.5))
    for read in (lambda a: probe_image(str(picture), a), lambda a: read_image(str(picture), 64, 64, a)):
        with pytest.raises(
            MediaError, match=r"1,000,000 pixels .*, got 3000x3000 \(a decompression bomb\?\)"
        ):
            read(access(folder, max_image_pixels=1_000_000))
    with pytest.raises(MediaError, match=r"decoded within 1e-09 s \(inputs.decode_seconds"):
        read_audio(sound, 0.0, 1.0, 16_000, access(folder, decode_seconds=1e-9))


PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{}'\n",
    "mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    '<AdaptationSet><Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL><SegmentList>'
    "<SegmentURL/></SegmentList></Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("ending", ["own", "wav"])
def test_playlists_open_no_other_file(folder: Path, tmp_path: Path, kind: str, ending: str) -> None:
    path = folder / f"list.{kind if ending == 'own' else 'wav'}"
    path.write_text(PLAYLISTS[kind].format(tmp_path / "secret.wav"))
    with pytest.raises(
        MediaError, match="must be an audio file, or a video with sound, got data that cannot"
    ):
        probe_audio(str(path), access(folder))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run\n"),
        (
            "a.svg",
            b'<svg xmlns="http://www.w3.org/2000/svg"><image href="'
            + FILE.encode()
            + b'/etc/passwd"/></svg>',
        ),
        ("a.png", b"%PDF-1.4\n"),
    ],
)
def test_pictures_that_are_programs_are_refused(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    with pytest.raises(MediaError, match="must be a whole image such as PNG or JPEG"):
        probe_image(str(folder / name), access(folder))


@contextmanager
def server(host: str, answer: Any) -> Iterator[str]:
    """A web server; ``answer(handler)`` answers every request. Its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_HEAD = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    made = ThreadingHTTPServer((host, 0), Handler)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield f"http://{host}:{made.server_port}"
    made.shutdown()
    thread.join()
    made.server_close()


def serve(data: bytes, length: bool = True) -> Any:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if length:
            handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(data)

    return answer


WEB = {"schemes": ("http",), "private_networks": ("127.0.0.2/32",)}


def test_a_redirect_to_loopback_is_refused(folder: Path) -> None:
    data = (folder / "beeps.wav").read_bytes()
    allowed = access(folder, **WEB)
    with server("127.0.0.1", serve(data)) as inner:

        def away(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", f"{inner}/beeps.wav")
            handler.end_headers()

        with server("127.0.0.2", serve(data)) as outer:
            assert probe_audio(f"{outer}/beeps.wav", allowed).seconds == pytest.approx(1.0)
        with server("127.0.0.2", away) as outer:
            with pytest.raises(MediaError, match=r"at a public address, got http://127.0.0.2.*loopback"):
                probe_audio(f"{outer}/beeps.wav", allowed)


def test_a_name_that_means_loopback_is_refused(folder: Path) -> None:
    data = (folder / "beeps.wav").read_bytes()
    with server("127.0.0.1", serve(data)) as url:
        named = url.replace("127.0.0.1", "localhost")
        with pytest.raises(MediaError, match=r"at a public address, got http://localhost.* is loopback"):
            probe_audio(f"{named}/beeps.wav", access(folder, schemes=("http",)))


def test_a_redirect_to_another_scheme_is_refused(folder: Path) -> None:
    def away(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "https://127.0.0.2/beeps.wav")
        handler.end_headers()

    with server("127.0.0.2", away) as url:
        with pytest.raises(MediaError, match=r"it leads to https://, which inputs.schemes does not allow"):
            probe_audio(f"{url}/beeps.wav", access(folder, **WEB))


@pytest.mark.parametrize("length", [True, False])
def test_an_image_comes_whole_whatever_the_server_says(folder: Path, length: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    with server("127.0.0.2", serve((folder / "noise.png").read_bytes(), length)) as url:
        assert np.array_equal(read_image(f"{url}/noise.png", 400, 400, access(folder, **WEB)), noise)
        with pytest.raises(MediaError, match="at most 100,000 bytes"):
            read_image(f"{url}/noise.png", 64, 64, access(folder, **WEB, max_image_bytes=100_000))


def test_a_server_that_sends_more_than_it_said_is_cut_off(folder: Path) -> None:
    def more(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if handler.command == "HEAD":
            handler.send_header("Content-Length", "100")
        handler.end_headers()
        if handler.command == "GET":
            with suppress(OSError):
                while True:
                    handler.wfile.write(b"x" * 65_536)

    with server("127.0.0.2", more) as url:
        with pytest.raises(MediaError, match="at most 1,000,000 bytes"):
            probe_audio(f"{url}/beeps.wav", access(folder, **WEB, max_bytes=1_000_000))


def test_a_body_without_a_length_is_read_up_to_the_limit(folder: Path) -> None:
    data = (folder / "beeps.wav").read_bytes()
    with server("127.0.0.2", serve(data, length=False)) as url:
        with pytest.raises(MediaError, match="at most 1,000 bytes"):
            probe_audio(f"{url}/beeps.wav", access(folder, **WEB, max_bytes=1000))


@pytest.mark.parametrize(
    ("address", "is_refused"),
    [
        ("8.8.8.8", False),
        ("2606:4700:4700::1111", False),
        ("0.0.0.0", True),
        ("100.64.0.1", True),
        ("172.16.0.1", True),
        ("224.0.0.1", True),
        ("fe80::1", True),
        ("fd00::1", True),
        ("::ffff:127.0.0.1", True),
        ("64:ff9b::a00:1", True),
        ("2002:7f00:1::", True),
    ],
)
def test_only_public_addresses_are_connected_to(address: str, is_refused: bool) -> None:
    assert (refusal(ip_address(address)) is not None) == is_refused
    everything = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    assert refusal(ip_address(address), everything) is None


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("https://h/a.wav?X-Amz-Signature=s3cret", "https://h/a.wav?..."),
        ("https://me:word@h/a.wav", "https://...@h/a.wav"),
        ("see s3://b/k?versionId=1 and https://h/b#t=1, ok", "see s3://b/k?... and https://h/b#... ok"),
        ("got 'https://h/a?sig=1' here", "got 'https://h/a?... here"),
        ("no url? yes", "no url? yes"),
    ],
)
def test_secrets_in_urls_are_not_written(text: str, plain: str) -> None:
    assert redacted(text) == plain


def test_prompts_stay_as_they_are_and_the_row_stays_json(folder: Path) -> None:
    prompt = 'a sign "https://x.com/?q=1" here'
    values = ROW | {
        "prompt": prompt,
        "source": "https://h/a b?sig=s3cret x",
        "more": [{"url": "s3://b?t=s3cret"}],
    }
    shot = parse_row(RawRow(number=1, values=values), RenderConfig(), str(folder))
    kept = json.loads(shot.input)
    assert kept["prompt"] == prompt
    assert kept["source"] == "https://h/a b?..."
    assert kept["more"] == [{"url": "s3://b?..."}]


def test_a_rows_secret_reaches_neither_result_nor_error(folder: Path) -> None:
    url = "https://example.org/a.wav?token=s3cret"
    shot = parse_row(RawRow(number=1, values=ROW | {"audio": url}), RenderConfig(), str(folder))
    assert shot.audio == url
    assert "s3cret" not in shot.input
    with pytest.raises(RowError) as caught:
        parse_row(RawRow(number=1, values=ROW | {"audio": url, "width": -1}), RenderConfig(), str(folder))
    assert "s3cret" not in str(caught.value) + caught.value.input
