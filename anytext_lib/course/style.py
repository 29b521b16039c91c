"""One look for every figure: colour-blind-safe colours, readable text, sharp bitmaps, words beside the picture.

A figure is an image/png output, which every viewer of notebooks draws, also those that sanitise or refuse HTML. The
alternative text stands in its metadata, where VS Code, Gitea and nbconvert's classic template find it. JupyterLab does
not look there, so a caption, an output of its own below the picture, says in words what the figure shows.
"""

from __future__ import annotations

import base64
import html
import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from PIL import Image

PALETTE = {
    "orange": "#C58800",
    "sky": "#3D97D2",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "black": "#000000",
    "grey": "#7F7F7F",
}
"""The palette of Okabe and Ito (https://jfly.uni-koeln.de/color/), and a grey for what is not the subject.

Their orange and sky are darkened, so that a thin line has a contrast of 3:1 with white paper (WCAG 2, 1.4.11). Yellow
has not: it is for areas, and for lines on pictures.
"""

COLORS = {
    "simple": PALETTE["blue"],
    "ocr": PALETTE["vermillion"],
    "ctc": PALETTE["green"],
    "total": PALETTE["black"],
    "good": PALETTE["green"],
    "bad": PALETTE["vermillion"],
    "reference": PALETTE["grey"],
}
"""What a colour means, in every notebook: `COLORS["ocr"]` is the OCR loss wherever it is drawn."""

PIXELS_PER_INCH = 126  # of the stored bitmap
SHOWN_PER_INCH = 90  # CSS pixels on the page: the bitmap is 1.4 times as fine
LARGEST = 200_000  # bytes of a bitmap that is finer than the page
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+|~&!-])")
CYCLE = ("blue", "vermillion", "green", "orange", "purple", "sky", "black")


def use() -> None:
    """Set the course's matplotlib style, with fonts that hold Chinese. To be called once, near the imports."""
    import matplotlib
    from cycler import cycler

    matplotlib.rcParams.update(
        {
            "font.family": ["DejaVu Sans", *_chinese_families()],
            "font.size": 10.5,
            "axes.titlesize": 10.5,
            "axes.labelsize": 10.5,
            "legend.fontsize": 9.5,
            "xtick.labelsize": 9.5,
            "ytick.labelsize": 9.5,
            "axes.prop_cycle": cycler(color=[PALETTE[name] for name in CYCLE]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#DDDDDD",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "lines.linewidth": 1.8,
            "legend.frameon": False,
            "figure.figsize": (8.0, 3.6),
            "figure.dpi": SHOWN_PER_INCH,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "image.cmap": "cividis",
            "image.interpolation": "auto",  # smooth when shrunk, sharp pixels when enlarged
        }
    )


def _chinese_families() -> list[str]:
    """Register the course's Chinese fonts with matplotlib; return their families, the largest font first."""
    from matplotlib import font_manager

    from anytext_lib.data.fonts import load_fonts

    faces = [face for face in load_fonts().values() if "Chinese" in face.languages and face.style == "Regular"]
    families = []
    for face in sorted(faces, key=lambda face: -len(face.characters)):
        font_manager.fontManager.addfont(str(face.path))
        families.append(font_manager.FontProperties(fname=str(face.path)).get_name())
    return list(dict.fromkeys(families))


def show(fig: Figure, alt: str, caption: str | None = None) -> None:
    """Display `fig` with alternative text and, below it, a caption; close it.

    `alt` says what one sees, for those who do not: it must not be empty. `caption` is plain text (default: the first
    sentence of `alt`).
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    png = png_bytes(fig)
    for data, metadata in figure_outputs(png, alt, round(fig.get_figwidth() * SHOWN_PER_INCH), caption):
        display(data, metadata=metadata, raw=True)
    plt.close(fig)


def png_bytes(fig: Figure) -> bytes:
    """`fig` as the bytes of a PNG file in its true colours, as small as they can be stored.

    The bitmap is finer than the page; one that would exceed `LARGEST` bytes, since it holds noise, is as fine as it.
    """
    fine = _png(fig, PIXELS_PER_INCH)
    return fine if len(fine) <= LARGEST else _png(fig, SHOWN_PER_INCH)


def _png(fig: Figure, dpi: int) -> bytes:
    from PIL import Image

    buffer, small = io.BytesIO(), io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi)
    picture = Image.open(buffer).convert("RGB")
    if picture.getcolors(256):
        picture = _with_palette(picture)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()


def _with_palette(picture: Image.Image) -> Image.Image:
    """An RGB picture of at most 256 colours as one with exactly these in its palette: nothing is lost."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(picture).astype(np.uint32) @ np.uint32([65536, 256, 1])
    colors, places = np.unique(pixels, return_inverse=True)
    indexed = Image.fromarray(places.reshape(pixels.shape).astype(np.uint8))
    indexed.putpalette(np.stack([colors >> 16, colors >> 8, colors], axis=1).astype(np.uint8).tobytes())
    return indexed


def figure_outputs(png: bytes, alt: str, width: int, caption: str | None = None) -> list[tuple[dict, dict]]:
    """The outputs of a figure, each as (data, metadata): the picture, `width` CSS pixels wide, and its caption.

    Raises ValueError when the alternative text is empty.
    """
    alt = _words(alt)
    caption = _words(caption) if caption else first_sentence(alt)
    picture = {"image/png": base64.b64encode(png).decode("ascii"), "text/plain": f"[figure] {alt}"}
    return [
        (picture, {"image/png": {"alt": alt, "width": width}, "vscode_altText": alt}),
        ({"text/markdown": f"*{_as_markdown(caption)}*", "text/plain": caption}, {}),
    ]


def first_sentence(text: str) -> str:
    """`text` up to the first mark that ends a sentence; all of it where none does."""
    found = re.match(r".+?[.!?][\"'”’)]*(?=\s+[\"'“‘(]?[A-Z]|$)", text, flags=re.DOTALL)
    return found[0] if found else text


def _as_markdown(text: str) -> str:
    """`text` as markdown that shows it as it is; words with a dollar as code, for two dollars enclose a formula."""
    words = [f"`{word.replace('`', '')}`" if "$" in word else MARKDOWN.sub(r"\\\1", word) for word in text.split()]
    return " ".join(words)


def _words(alt: str | None) -> str:
    """`alt` on one line. Raises ValueError when it is empty."""
    text = " ".join((alt or "").split())
    if not text:
        raise ValueError("A figure needs alternative text: say in `alt` what one sees in it.")
    return text


def image_html(png: bytes, alt: str, width: int) -> str:
    """An HTML image of `png` shown `width` CSS pixels wide. Raises ValueError when the alternative text is empty."""
    data, text = base64.b64encode(png).decode("ascii"), html.escape(_words(alt), quote=True)
    return f'<img alt="{text}" width="{width}" style="max-width:100%;height:auto" src="data:image/png;base64,{data}">'


def show_images(
    images: Sequence[Any] | Any,
    titles: Sequence[str] | None = None,
    *,
    alt: str,
    columns: int = 4,
    width: float = 8.5,
    suptitle: str | None = None,
    caption: str | None = None,
    **imshow: Any,
) -> None:
    """Display images in a grid of at most `columns` columns, `width` inches wide.

    An image is uint8 (H,W,3), a float tensor (3,H,W) in [-1,1], or one channel (H,W) or (1,H,W) of any range, for
    which `imshow` may give cmap, vmin, vmax. A tensor (B,C,H,W) is a sequence of images. `alt` and `caption` as in
    `show`.
    """
    import matplotlib.pyplot as plt

    arrays = [as_picture(image) for image in images]
    if not arrays:
        raise ValueError("show_images got no image.")
    if titles is not None and len(titles) != len(arrays):
        raise ValueError(f"show_images got {len(arrays)} images and {len(titles)} titles.")
    columns = min(columns, len(arrays))
    rows = math.ceil(len(arrays) / columns)
    shape = max(array.shape[0] / array.shape[1] for array in arrays)
    lines = max((title.count("\n") + 1 for title in titles or []), default=0)
    height = rows * (width / columns * shape + 0.19 * lines + 0.06) + (0.3 if suptitle else 0)
    fig, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="compressed")
    for ax in axes.flat:
        ax.axis("off")
    for index, (ax, array) in enumerate(zip(axes.flat, arrays, strict=False)):
        ax.imshow(array, **({"cmap": "gray"} | imshow if array.ndim == 2 else {}))
        ax.set_title(titles[index] if titles is not None else "")
    fig.suptitle(suptitle)
    show(fig, alt, caption)


def as_picture(image: Any) -> np.ndarray:
    """`image` as matplotlib draws it: (H,W,3) in [0,1] or uint8, or (H,W). Accepts the forms of `show_images`."""
    import numpy as np

    tensor = hasattr(image, "detach")
    array = image.detach().cpu().float().numpy() if tensor else np.asarray(image)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8):
        return array
    if array.ndim == 3 and array.shape[0] == 3:
        return np.clip((array.transpose(1, 2, 0) + 1) / 2, 0, 1)
    raise ValueError(
        f"Cannot show an image of shape {tuple(array.shape)} and type {array.dtype}: give uint8 (H,W,3), "
        "float (3,H,W) in [-1,1], or (H,W)."
    )
