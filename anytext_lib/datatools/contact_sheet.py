"""One picture of many samples: each with the polygons of its lines, numbered, and what the lines say below it."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anytext_lib.data.anyword import AnnotatedImage, Annotation
from anytext_lib.data.fonts import MissingGlyphError, fonts_for, load_fonts, pil_font
from anytext_lib.data.glyphs import draw_text, text_width
from anytext_lib.data.pictures import PictureError
from anytext_lib.data.texts import normal_text
from anytext_lib.errors import OptionError
from anytext_lib.files import atomic_path

TILE, MARGIN, ROW, TEXT, SHOWN = 384, 14, 21, 15, 8  # pixels: picture, gap, row of text, letters; lines listed
PAPER, INK, FAINT, INVALID = (255, 255, 255), (25, 25, 25), (120, 120, 120), (120, 120, 120)
FINE, LOOK = (30, 120, 40), (205, 20, 30)  # of a draft: lines that are fine, lines to look at
COLOURS = ((214, 39, 40), (31, 119, 180), (44, 140, 44), (200, 100, 0), (130, 80, 180), (0, 140, 150), (190, 50, 140),
           (120, 85, 60))


def contact_sheet(images: Sequence[AnnotatedImage], columns: int = 4, path: str | os.PathLike | None = None,
                  remarks: Sequence[Sequence[str]] | None = None, side: int = TILE, shown: int = SHOWN):
    """Draw the samples.

    A polygon starts at its dot; its number stands there and in the list below.  Polygons of lines that are marked
    invalid are grey and dashed.  A picture that cannot be read gives an empty tile that says so.

    Args:
        images: what to draw. ``columns``: pictures side by side. ``path``: where to save the sheet (atomically), if
            at all; the suffix says the format (.png, .jpg, ...).
        remarks: for each picture, for each line, what stands beside it in the list in place of its language; lines
            that are marked invalid are then red, and the others green.
        side: pixels of a picture's longer side. ``shown``: lines that are listed below a picture.

    Returns:
        a ``PIL.Image`` in RGB.

    Raises:
        OptionError: no images, or a suffix that is no format. UnwritableError: the sheet cannot be written.
    """
    from PIL import Image

    if not images or columns < 1:
        raise OptionError(f"a contact sheet needs a picture and a column, got {len(images)} and {columns}")
    tiles = [_tile(image, None if remarks is None else remarks[i], side, shown) for i, image in enumerate(images)]
    columns = min(columns, len(tiles))
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    heights = [max(tile.height for tile in row) for row in rows]
    sheet = Image.new("RGB", (MARGIN + columns * (side + MARGIN), MARGIN + sum(heights) + MARGIN * len(rows)), PAPER)
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        for i, tile in enumerate(row):
            sheet.paste(tile, (MARGIN + i * (side + MARGIN), top))
        top += height + MARGIN
    if path is not None:
        _save(sheet, Path(path))
    return sheet


def _save(sheet, path: Path) -> None:
    from PIL import Image

    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None:
        raise OptionError(f"{path.name} does not end as a picture does: name the sheet something.png")
    data = io.BytesIO()  # Pillow's own errors of writing do not say why
    try:
        sheet.save(data, format=kind)
    except (OSError, ValueError, KeyError) as error:
        raise OptionError(f"a sheet cannot be saved as {path.suffix} ({error}): name it something.png") from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.getbuffer())


def _tile(image: AnnotatedImage, remarks: Sequence[str] | None, side: int, shown: int):
    """One sample: picture, name, list of lines."""
    from PIL import Image, ImageDraw

    colours = [_colour(i, line, remarks is not None) for i, line in enumerate(image.annotations)]
    picture, note = _picture(image, side, colours)
    listed = image.annotations[:shown]
    more = len(image.annotations) - len(listed)
    tile = Image.new("RGB", (side, picture.height + ROW * (1 + len(listed) + bool(more)) + 6), PAPER)
    tile.paste(picture, ((side - picture.width) // 2, 0))
    draw, y = ImageDraw.Draw(tile), picture.height + 4
    _write(draw, (0, y), f"{image.name}  {note}", FAINT, side)
    for i, line in enumerate(listed):
        y += ROW
        _badge(draw, (9, y + ROW // 2 - 1), i, colours[i])
        suffix = _suffix(line) if remarks is None else f"  {remarks[i]}"
        _write(draw, (24, y), line.text or "(no text)", INK if line.valid or remarks else FAINT, side, suffix)
        if line.color:
            draw.rectangle((side - 16, y + 3, side - 3, y + 16), fill=line.color, outline=FAINT)
    if more:
        _write(draw, (24, y + ROW), f"and {more} more", FAINT, side)
    return tile


def _colour(number: int, line: Annotation, draft: bool) -> tuple[int, int, int]:
    if draft:
        return FINE if line.valid else LOOK
    return COLOURS[number % len(COLOURS)] if line.valid else INVALID


def _suffix(line: Annotation) -> str:
    return f"  {line.language}" + ("" if line.valid else ", invalid")


def _picture(image: AnnotatedImage, side: int, colours: Sequence[tuple[int, int, int]]):
    """The picture with its polygons, at most ``side`` pixels wide and high, and its size in words."""
    from PIL import Image, ImageDraw

    try:
        picture = Image.fromarray(image.read())
    except PictureError:
        empty = Image.new("RGB", (side, side // 2), (225, 225, 225))
        _write(ImageDraw.Draw(empty), (12, side // 4 - 10), "this picture cannot be read", INK, side)
        return empty, ""
    note = f"{picture.width} x {picture.height}"
    scale = side / max(picture.size)
    width, height = (max(1, round(pixels * scale)) for pixels in picture.size)
    picture = picture.resize((2 * width, 2 * height), Image.Resampling.LANCZOS)  # drawn at twice the size: smooth
    draw = ImageDraw.Draw(picture)
    for i, line in enumerate(image.annotations):
        points = np.asarray(line.polygon) * 2 * scale
        if np.isfinite(points).all():
            _outline(draw, np.clip(points, -1e4, 1e4), i, line.valid, colours[i])
    return picture.resize((width, height), Image.Resampling.LANCZOS), note


def _outline(draw, points: np.ndarray, number: int, valid: bool, colour: tuple[int, int, int]) -> None:
    """A polygon with its number, at twice the size."""
    for shade, width in (((255, 255, 255), 8), (colour, 4)):  # a light rim, to be seen on any picture
        for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
            steps = 1 if valid else max(1, int(np.hypot(*(b - a)) / 20))
            for k in range(0, steps, 2 if steps > 1 else 1):
                ends = a + (b - a) * k / steps, a + (b - a) * (k + 1) / steps
                draw.line([tuple(end) for end in ends], fill=shade, width=width)
    _badge(draw, points[0], number, colour, 2)


def _badge(draw, centre, number: int, colour: tuple[int, int, int], scale: int = 1) -> None:
    x, y, r = float(centre[0]), float(centre[1]), 9 * scale
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline=PAPER, width=scale)
    draw.text((x, y), str(number), fill=PAPER, font=pil_font("OpenSans", 12 * scale), anchor="mm")


def _write(draw, place: tuple[int, int], text: str, colour, side: int, suffix: str = "") -> None:
    """Text in a font that has its letters (others become ?), cut to a tile of ``side`` pixels, with a faint suffix."""
    most = side // 16
    suffix = suffix if len(suffix) <= most else suffix[: most - 1] + "…"
    text = normal_text(text)[:200]
    try:
        name = fonts_for(text)[0]
    except MissingGlyphError:
        name = max(load_fonts(), key=lambda n: len(text) - len(load_fonts()[n].missing(text)))
        text = "".join(c if c in load_fonts()[name].characters else "?" for c in text)
    room = side - 20 - place[0] - pil_font("OpenSans", TEXT - 3).getlength(suffix)
    more = "…" if "…" in load_fonts()[name].characters else ""
    if text_width(text, name, TEXT) > room:
        while text and text_width(text + more, name, TEXT) > room:
            text = text[:-1]
        text += more
    baseline = place[1] + ROW - 6
    draw_text(draw, (place[0], baseline), text, name, TEXT, colour, baseline=True)
    after = place[0] + text_width(text, name, TEXT)
    draw.text((after, baseline), suffix, fill=FAINT, font=pil_font("OpenSans", TEXT - 3), anchor="ls")
