"""One look for every figure: colour-blind-safe colours, readable text, sharp bitmaps, alternative text.

Figures are shown as an HTML image rather than as a bare PNG output: neither JupyterLab nor nbconvert's default
template renders the `alt` metadata of a PNG output, and both render `<img alt=...>`.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

PALETTE = {
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "black": "#000000",
    "grey": "#7F7F7F",
}
"""The palette of Okabe and Ito (https://jfly.uni-koeln.de/color/), and a grey for what is not the subject."""

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


def show(fig: Figure, alt: str, max_kib: int = 120) -> None:
    """Display `fig` with alternative text and close it.

    `alt` says what one sees, for those who do not: it must not be empty. A bitmap larger than `max_kib` KiB is
    stored with 256 colours (dithered), which keeps pages of noise images small.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    markup = image_html(png_bytes(fig, max_kib), alt, width=round(fig.get_figwidth() * SHOWN_PER_INCH))
    plt.close(fig)
    display({"text/html": markup, "text/plain": f"[figure] {alt.strip()}"}, raw=True)


def png_bytes(fig: Figure, max_kib: int = 120) -> bytes:
    """`fig` as the bytes of a PNG file; with a palette of 256 colours where true colours exceed `max_kib` KiB."""
    from PIL import Image

    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=PIXELS_PER_INCH, metadata={"Software": None})
    if buffer.tell() <= max_kib * 1024:
        return buffer.getvalue()
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(256).save(small, format="png", optimize=True)
    return min(buffer.getvalue(), small.getvalue(), key=len)


def image_html(png: bytes, alt: str, width: int) -> str:
    """An HTML image of `png` shown `width` CSS pixels wide. Raises ValueError when the alternative text is empty."""
    if not alt or not alt.strip():
        raise ValueError("A figure needs alternative text: say in `alt` what one sees in it.")
    data = base64.b64encode(png).decode("ascii")
    text = html.escape(" ".join(alt.split()), quote=True)
    return f'<img alt="{text}" width="{width}" style="max-width:100%;height:auto" src="data:image/png;base64,{data}">'


def show_images(
    images: Sequence[Any] | Any,
    titles: Sequence[str] | None = None,
    *,
    alt: str,
    columns: int = 4,
    width: float = 8.5,
    suptitle: str | None = None,
    max_kib: int = 120,
    **imshow: Any,
) -> None:
    """Display images in a grid of at most `columns` columns, `width` inches wide.

    An image is uint8 (H,W,3), a float tensor (3,H,W) in [-1,1], or one channel (H,W) or (1,H,W) of any range, for
    which `imshow` may give cmap, vmin, vmax. A tensor (B,C,H,W) is a sequence of images. `alt` and `max_kib` as in
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
    fig, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for index, (ax, array) in enumerate(zip(axes.flat, arrays, strict=False)):
        ax.imshow(array, **({"cmap": "gray"} | imshow if array.ndim == 2 else {}))
        ax.set_title(titles[index] if titles is not None else "")
    fig.suptitle(suptitle)
    show(fig, alt, max_kib)


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
