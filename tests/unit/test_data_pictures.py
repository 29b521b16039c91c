"""The one reader of pictures: orientation, depth, transparency, frames, size, damage."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from anytext_lib.data.pictures import MOST_PIXELS, PictureError, picture_size, read_picture, upright_rgb

GREY = np.tile(np.linspace(20, 220, 40).astype(np.uint8), (24, 1))  # (24, 40), darker on the left
COVER = np.zeros((24, 40), np.uint8)
COVER[6:18, 5:15] = 255


def saved(picture, form="PNG", **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize(("orientation", "stored"), [
    (1, lambda a: a), (2, lambda a: a[:, ::-1]), (3, lambda a: a[::-1, ::-1]), (4, lambda a: a[::-1]),
    (5, lambda a: a.T), (6, lambda a: np.rot90(a)), (7, lambda a: np.rot90(a, 2).T), (8, lambda a: np.rot90(a, 3)),
])
def test_every_orientation_is_turned_upright(form, orientation, stored):
    upright = GREY.copy()
    upright[:8, :8] = 255  # no symmetry
    data = saved(Image.fromarray(np.ascontiguousarray(stored(upright))).convert("RGB"), form,
                 exif=oriented(orientation), **({"lossless": True} if form == "WEBP" else {}))
    assert picture_size(data) == (40, 24)
    found = read_picture(data)
    assert found.shape == (24, 40, 3) and found.dtype == np.uint8
    assert np.abs(found[..., 0].astype(int) - upright).max() <= (40 if form == "JPEG" else 0)


def test_an_exif_block_that_is_damaged_says_nothing():
    data = saved(Image.fromarray(GREY), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\xff\xff\xff")
    assert read_picture(data).shape == (24, 40, 3) and picture_size(data) == (40, 24)


@pytest.mark.parametrize(("picture", "form"), [
    (Image.fromarray(GREY), "PNG"), (Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
    (Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"), (Image.fromarray(GREY.astype(np.int32) * 257), "TIFF"),
    (Image.fromarray(GREY.astype(np.float32) / 255), "TIFF"), (Image.fromarray(GREY).convert("P"), "PNG"),
    (Image.fromarray(GREY).convert("LA"), "PNG"), (Image.fromarray(GREY).convert("RGB").convert("CMYK"), "TIFF"),
    (Image.fromarray(GREY).convert("RGBA"), "WEBP"),
])
def test_grey_is_the_same_grey_in_every_depth(picture, form):
    found = read_picture(saved(picture, form, **({"lossless": True} if form == "WEBP" else {})))
    np.testing.assert_array_equal(found, np.repeat(GREY[..., None], 3, axis=2))


def test_sixteen_bits_of_the_other_byte_order():
    data = saved(Image.frombytes("I;16B", (40, 24), (GREY.astype(">u2") * 257).tobytes()), "TIFF")
    np.testing.assert_array_equal(read_picture(data)[..., 0], GREY)


def test_two_levels_are_black_and_white():
    found = read_picture(saved(Image.fromarray(COVER).convert("1")))
    np.testing.assert_array_equal(found[..., 0], COVER)


def ink(mode):
    """Blue everywhere, opaque in COVER only."""
    rgba = np.dstack([np.zeros((24, 40, 2), np.uint8), np.full((24, 40), 60, np.uint8), COVER])
    if mode != "P":
        return Image.fromarray(rgba).convert(mode), {}
    palette = Image.fromarray((COVER > 0).astype(np.uint8)).convert("P")
    palette.putpalette([0, 0, 60] * 256)
    return palette, {"transparency": 0}


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
def test_transparent_parts_lie_over_white(mode):
    picture, options = ink(mode)
    found = read_picture(saved(picture, **options))
    assert (found[COVER == 0] == 255).all() and (found[COVER > 0] < 70).all()
    np.testing.assert_array_equal(np.array(upright_rgb(picture)) if not options else found, found)


def test_a_transparent_colour_of_a_picture_without_alpha():
    data = saved(Image.fromarray(COVER), transparency=0)
    assert (read_picture(data) == 255).all()


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PNG", "WEBP"])
def test_the_first_of_several_pictures(form):
    first, second = Image.fromarray(COVER), Image.fromarray(255 - COVER)
    data = saved(first.convert("RGB"), form, save_all=True, append_images=[second.convert("RGB")],
                 **({"lossless": True} if form == "WEBP" else {}))
    np.testing.assert_array_equal(read_picture(data)[..., 0], COVER)


@pytest.mark.parametrize(("values", "words"), [
    (np.full((4, 4), np.nan, np.float32), "go from nan"), (np.full((4, 4), 200, np.float32), r"in \[0, 1\]"),
    (np.full((4, 4), 200, np.int32), "some above 255"), (np.full((4, 4), 70000, np.int32), "0..65535"),
    (np.full((4, 4), -1, np.int32), "from -1"),
])
def test_values_without_a_known_range_are_refused(values, words):
    with pytest.raises(PictureError, match=words):
        read_picture(saved(Image.fromarray(values), "TIFF"))


def claims(width, height):
    """The head of a PNG of any size, and no pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize("size", [(30000, 30000), (13000, 13000), (MOST_PIXELS // 8192 + 1, 8192)])
def test_a_bomb_is_refused_by_its_head(size):
    for read in (read_picture, picture_size):
        with pytest.raises(PictureError, match="51 million.*make it smaller"):
            read(claims(*size))


@pytest.mark.parametrize(("data", "words"), [
    (b"", "not a picture of a known format"), (b"<svg></svg>", "not a picture"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "not a picture"),
    (saved(Image.fromarray(GREY), "JPEG")[:-200], "cannot be decoded"),
    (saved(Image.fromarray(GREY))[:60], "cannot be decoded"), (claims(40, 24), "cannot be decoded"),
])
def test_what_is_no_whole_picture_says_why(data, words):
    with pytest.raises(PictureError, match=words):
        read_picture(data)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(PictureError, match="no such file"):
        read_picture(tmp_path / "a.png")
    with pytest.raises(PictureError, match="cannot be decoded"):
        read_picture(tmp_path)
