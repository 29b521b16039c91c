"""Upright crops of lines of text, differentiable in the images.

Upstream (AnyText2 ``cldm/recognizer.py``: ``adjust_image``, ``crop_image``, ``resize_norm_img``) warps the whole
image for each line, keeps the corner that holds the line, and resizes it.  Here only the pixels of the lines are
sampled, all lines of a batch in one ``grid_sample``; the values are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from anytext_lib.data.lines import TextLines, check_choice, quad_size, report_bad_lines

REACH = 16  # columns of the maps on either side: 6 blocks of 3 x 3 reach 6, 5 blocks of 5 x 5 reach 10
STEP = 2  # pixels of the crop for each column: the stride of the stem
SIDE = 2  # columns that one convolution sees on either side: half a seam
FRAME = 4  # columns for each frame: the strides of the last block and of the pooling
TOGETHER = 5  # lines on one ribbon, of like width: then most maps stay in a processor's cache
TALL = 1.2  # a crop higher than 1.2 times its width is turned by 90 degrees


def crop_lines(images: torch.Tensor, lines: TextLines, height: int = 48, width: int = 320,
               on_bad_line: str = "raise") -> torch.Tensor:
    """Cut every line out of its image, upright, ready for a recogniser.

    A similarity transform (least squares over the four corners) puts the box upright; the box is sampled bilinearly
    (outside the image is black), turned by 90 degrees if it is tall, resized to ``height`` and at most ``width``
    keeping its aspect ratio, and padded on the right with 0 (mid-grey).

    Args:
        images: (B, 3, H, W) in [-1, 1], RGB.  Gradients flow to it.
        lines: L lines; their quads are in pixels of ``images``.
        height, width: size of the crops in pixels.
        on_bad_line: what to do with a line whose box has no area or lies outside its image: "raise" a
            BadLineError, or "skip" it with a BadLineWarning that counts.

    Returns:
        (L, 3, height, width) in [-1, 1]; fewer than L rows if lines were skipped, none if there is no line.
    """
    lines = lines.select(readable_rows(lines, images, on_bad_line))
    if len(lines) == 0:
        return images.new_zeros(0, images.shape[1], height, width)
    pieces = _sample_boxes(images, lines)
    return torch.stack([_fit(_upright(piece), height, width) for piece in pieces])


def readable_rows(lines: TextLines, images: torch.Tensor, on_bad_line: str = "raise") -> list[int]:
    """Indices of the lines that can be cut out of ``images`` (B, C, H, W); others raise or are reported as skipped."""
    check_choice(on_bad_line)
    if images.ndim != 4:
        raise ValueError(f"images have shape (B, C, H, W), got {tuple(images.shape)}")
    batch, _, height, width = images.shape
    reasons = {i: reason for i in range(len(lines)) if (reason := _complaint(lines, i, batch, height, width))}
    report_bad_lines(list(reasons.values()), len(lines), on_bad_line)
    return [i for i in range(len(lines)) if i not in reasons]


def similarity(quad: torch.Tensor) -> torch.Tensor:
    """Similarity transform that maps a quad (4, 2) upright onto (0, 0)-(w, h), by least squares over the corners.

    Written with complex numbers: with both corner sets centred, z -> a z with
    ``a = sum(conj(z) u) / sum(|z|^2)`` is the optimal rotation and scale (the same as
    Umeyama's method).

    Returns:
        (2, 3) float64 matrix M, upright = M @ (x, y, 1).
    """
    quad = quad.double()
    w, h = quad_size(quad)
    target = torch.tensor([[0, 0], [w, 0], [w, h], [0, h]], dtype=torch.float64)
    z, u = torch.view_as_complex(quad.contiguous()), torch.view_as_complex(target)
    zc, uc = z - z.mean(), u - u.mean()
    a = (zc.conj() * uc).sum() / (zc.abs() ** 2).sum()
    b = u.mean() - a * z.mean()
    return torch.stack([torch.stack([a.real, -a.imag, b.real]), torch.stack([a.imag, a.real, b.imag])])


def crop_size(quad: torch.Tensor, image_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels of the upright box of a quad (4, 2), cut to the image's own size as upstream does."""
    w, h = quad_size(quad)
    return min(int(h), image_size[0]), min(int(w), image_size[1])


def crop_widths(lines: TextLines, image_size: tuple[int, int], height: int = 48, width: int = 320) -> list[int]:
    """Columns that each line takes of its crop by ``crop_lines``; the rest is padding.

    ``image_size`` is (H, W) of the images; the lines must be readable.
    """
    return [_fitted_width(_upright_size(crop_size(quad, image_size)), height, width) for quad in lines.quads]


def footprint(quad: torch.Tensor, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) in pixels, ends excluded: the part of the image that ``crop_lines`` looks at.

    Args:
        quad: (4, 2) of a readable line. ``image_size``: (H, W).
    """
    points = torch.empty(*crop_size(quad, image_size), 2)
    _write_grid(points, quad, image_size)
    corners = points[[0, 0, -1, -1], [0, -1, 0, -1]]
    found: list[int] = []
    for length, place in zip(image_size, corners.T.flip(0), strict=True):
        pixels = (place + 1) / 2 * (length - 1)
        first = min(max(0, math.floor(float(pixels.min()))), length - 1)
        found += [first, max(first + 1, min(length, math.floor(float(pixels.max())) + 2))]
    return found[0], found[1], found[2], found[3]


def _complaint(lines: TextLines, i: int, batch: int, height: int, width: int) -> str | None:
    where = f"line {i} ({lines.texts[i]!r})"
    image, quad = int(lines.image_index[i]), lines.quads[i]
    if not 0 <= image < batch:
        return f"{where} stands in image {image}, but the batch has {batch} images"
    if not torch.isfinite(quad).all():
        return f"{where} has a corner that is not finite"
    if min(crop_size(quad, (height, width))) < 1:
        w, h = quad_size(quad)
        return f"{where} has a box of {w:.1f} x {h:.1f} pixels, too thin to be read: give it at least 1 x 1"
    (left, top), (right, bottom) = quad.min(dim=0).values.tolist(), quad.max(dim=0).values.tolist()
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return (f"{where} lies outside its image of {width} x {height} pixels: "
                f"x {left:.0f} to {right:.0f}, y {top:.0f} to {bottom:.0f}")
    return None


def _sample_boxes(images: torch.Tensor, lines: TextLines) -> list[torch.Tensor]:
    """Sample every box at its own size: one grid_sample for the batch, on a padded list of points per image."""
    batch, channels, height, width = images.shape
    # black is -1 but the padding of grid_sample is 0: shift by one, as upstream samples pixels of 0..255
    images = images if images.dtype == torch.float64 else images.float()  # half precision misses by whole pixels
    sizes = [crop_size(quad, (height, width)) for quad in lines.quads]
    order: list[list[int]] = [[] for _ in range(batch)]
    for i, image in enumerate(lines.image_index.tolist()):
        order[image].append(i)
    counts = [[math.prod(sizes[i]) for i in row] for row in order]
    most = max(map(sum, counts))
    points = torch.full((batch, 1, most, 2), -2.0, dtype=images.dtype)  # -2 lies outside: it reads zero padding
    for there, row, used in zip(points[:, 0], order, counts, strict=True):
        for i, here in zip(row, there[: sum(used)].split(used), strict=True):
            _write_grid(here.view(*sizes[i], 2), lines.quads[i], (height, width))
    flat = F.grid_sample(images + 1, points.to(images.device, non_blocking=True), align_corners=True) - 1
    pieces = {}
    for row, used, of_image in zip(order, counts, flat[:, :, 0], strict=True):
        # split: its backward writes the image's gradient once, not once a line
        pieces |= dict(zip(row, of_image.split([*used, most - sum(used)], dim=1), strict=False))
    return [pieces[i].reshape(channels, *size) for i, size in enumerate(sizes)]


def _write_grid(points: torch.Tensor, quad: torch.Tensor, image_size: tuple[int, int]) -> None:
    """Write the sampling points (h, w, 2) of a box in grid_sample's coordinates, with upstream's half-pixel habits.

    Upstream maps pixel x to 2 x / W - 1 but samples with align_corners=True, where -1 and 1 are the centres of the
    first and last pixel: output pixel u stands for u W/(W-1), and position x reads at x (W-1)/W.
    """
    (h, w), (height, width) = points.shape[:2], image_size
    m = similarity(quad)
    inverse = torch.linalg.inv(m[:, :2])
    scale = torch.tensor([2 / width, 2 / height], dtype=torch.float64)
    start = scale * (-inverse @ m[:, 2]) - 1
    u = torch.arange(w, dtype=torch.float64)[:, None] * (width / max(width - 1, 1))
    v = torch.arange(h, dtype=torch.float64)[:, None] * (height / max(height - 1, 1))
    along, down = u * (scale * inverse[:, 0]) + start, v * (scale * inverse[:, 1])  # (w, 2), (h, 2)
    torch.add(along, down[:, None], out=points)


def _is_tall(h: int, w: int) -> bool:
    return h > TALL * w


def _upright_size(size: tuple[int, int]) -> tuple[int, int]:
    return size[::-1] if _is_tall(*size) else size


def _upright(piece: torch.Tensor) -> torch.Tensor:
    """Turn a tall crop (C, h, w) counter-clockwise by 90 degrees."""
    return piece.transpose(1, 2).flip(1) if _is_tall(*piece.shape[1:]) else piece


def _fitted_width(size: tuple[int, int], height: int, width: int) -> int:
    """Width of a piece of ``size`` (h, w) resized to ``height``, keeping its aspect ratio, at most ``width``."""
    h, w = size
    return min(width, math.ceil(height * w / h))


def _fit(piece: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize (C, h, w) to ``height``, at most ``width``, keeping the aspect ratio, and pad on the right with 0."""
    new_width = _fitted_width(tuple(piece.shape[1:]), height, width)
    resized = F.interpolate(piece[None], size=(height, new_width), mode="bilinear", align_corners=True)[0]
    return F.pad(resized, (0, width - new_width))


# Padding
#
# A line is rarely as wide as its crop, and the rest is constant. The first stages of the recogniser are convolutions of
# small reach, so beyond that reach of the text their output is what a blank crop gives, column by column, and it is
# computed once. What is left of the lines is laid side by side on a ribbon and goes through the stages together.
#
# Between two lines lies a seam of a few columns, which is written anew before each convolution that looks sideways. Its
# left half is what the blank crop has there, so that the line on the left finds the rest of its padding; its right half
# is zero, as is the border of a crop, where the line on the right begins. No line feels its neighbour or its cut.
#
# The two stages after these squeeze and excite: they scale each channel by a number that depends on the whole crop, so
# that padding is no longer the same in all crops. But between the text and the right border its columns still equal
# each other. One of them stands for all: the crop goes through these stages without the others, a mean over the crop
# counts the one as many times as there are columns, and so many frames are made of its frame.


@dataclass(frozen=True)
class Shortened:
    """Maps of ``full`` columns without ``removed`` of them, which equal those of frame number ``kept``.

    Of a map that has 1/s of the columns, ``kept`` is column ``kept * FRAME / s``, and ``removed / s`` are left out
    behind that frame.
    """

    full: int
    kept: int
    removed: int

    @classmethod
    def of(cls, needed: int, full: int) -> Shortened:
        """As short as it can be where a text changes the first ``needed`` of ``full`` columns, before these stages.

        The first stage sees SIDE columns on either side; the second SIDE as well, but takes every other column.
        """
        first = -(-(needed + 2 * SIDE) // FRAME)  # frames from here see no text
        last = ((full - REACH - SIDE - 1 - SIDE // 2) // 2 * 2 - SIDE) // FRAME  # and up to here no border
        return cls(full, first, FRAME * max(0, last - first))

    def columns(self, device: torch.device) -> torch.Tensor:
        """Which columns (full - removed,) of a full map are left."""
        start = FRAME * (self.kept + 1)
        left = [*range(start), *range(start + self.removed, self.full)] if self.removed else range(self.full)
        return torch.tensor(left).to(device, non_blocking=True)

    def frames(self, device: torch.device) -> torch.Tensor:
        """Which frame of the shortened map each of the (full / FRAME,) frames equals."""
        gone = self.removed // FRAME
        all_frames = torch.arange(self.full // FRAME)
        return torch.where(all_frames <= self.kept, all_frames, (all_frames - gone).clamp(min=self.kept)).to(
            device, non_blocking=True)

    def share(self, x: torch.Tensor) -> torch.Tensor:
        """(w,) share in the mean of a full map that an element of each column of a map (L, C, h, w) has."""
        if not self.removed:
            return x.new_full((x.shape[3],), 1 / (x.shape[2] * x.shape[3]))
        stride = (self.full - self.removed) // x.shape[3]
        weights = torch.ones(x.shape[3], dtype=x.dtype)
        weights[self.kept * FRAME // stride] += self.removed // stride
        return (weights * stride / (x.shape[2] * self.full)).to(x.device, non_blocking=True)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """(L, C, 1, 1) means of full maps, of the shortened ones (L, C, h, w)."""
        if not self.removed:
            return x.mean(dim=(2, 3), keepdim=True)
        return (x.sum(dim=2) @ self.share(x))[..., None, None]



def frames_of_padded(local: Sequence[Callable], rest: Callable, crops: torch.Tensor, widths: Sequence[int],
                     blanks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Frames of crops whose columns from ``widths`` on are padding.

    Args:
        local: the first takes (1, 3, 48, w) to (1, C, h, w/2); the others keep the width and take ``seams``, columns
            (S,) and values (1, C, h, S), to be written into their input first.  They reach ``REACH`` columns in all.
        rest: takes maps (L, C, h, w) and how they are ``Shortened`` to frames (L, D, 1, w/FRAME).
        crops: (L, 3, 48, W), zero from column ``widths[i]`` on.
        widths: L pixels.
        blanks: output (1, C, h, W/2) of each local stage for a crop of zeros.

    Returns:
        The frames (L, D, 1, W/8).
    """
    full = crops.shape[3] // STEP
    order = sorted(range(len(widths)), key=widths.__getitem__)
    pieces = crops.split(1)
    found = []
    for start in range(0, len(order), TOGETHER):
        group = order[start : start + TOGETHER]
        needed = [needed_columns(widths[i], full) for i in group]
        short = Shortened.of(max(needed), full)
        ribbon = _ribbon(local, [pieces[i][..., : n * STEP] for i, n in zip(group, needed, strict=True)], blanks)
        blank = blanks[-1].index_select(3, short.columns(crops.device))
        frames = rest(CutRibbons.apply(blank, needed, ribbon), short)
        found.append(frames.index_select(3, short.frames(crops.device)))
    back = torch.tensor(order).argsort().to(crops.device, non_blocking=True)
    return torch.cat(found).index_select(0, back)


def _ribbon(stages: Sequence[Callable], lines: Sequence[torch.Tensor], blanks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Maps (1, C, h, n) of the lines (1, 3, 48, STEP n) side by side, each with its seam."""
    gap = lines[0].new_zeros(1, *lines[0].shape[1:3], 2 * SIDE * STEP)
    needed = [line.shape[3] // STEP for line in lines]
    full = blanks[0].shape[3]
    columns, is_blank = seams(needed, full, gap.device)
    flat = min(REACH, full - 1)  # a column that feels no border, if any line is cut
    ribbon = stages[0](torch.cat([piece for line in lines for piece in (line, gap)], dim=3))
    for stage, blank in zip(stages[1:], blanks, strict=False):
        ribbon = stage(ribbon, (columns, blank[..., flat : flat + 1] * is_blank.to(blank)))
    return ribbon


class CutRibbons(torch.autograd.Function):
    """The maps of the lines (L, C, h, W), cut out of ribbons (1, C, h, n) and completed with a blank crop's.

    One copy there and one back, in ``channels_last``; cutting and joining takes four, and loses the layout on the way.
    """

    @staticmethod
    def forward(blank, needed, *ribbons):
        size = (len(needed), *blank.shape[1:])
        maps = torch.empty(size, dtype=blank.dtype, device=blank.device, memory_format=torch.channels_last)
        for row, n, part in zip(maps, needed, _cuts(needed, ribbons), strict=True):
            row[..., :n] = part
            row[..., n:] = blank[0, ..., n:]
        return maps

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.needed, *ribbons = inputs
        ctx.sizes = [ribbon.shape for ribbon in ribbons]

    @staticmethod
    def backward(ctx, gradient):
        back = [torch.empty(size, dtype=gradient.dtype, device=gradient.device,
                            memory_format=torch.channels_last).zero_() for size in ctx.sizes]
        for part, n, row in zip(_cuts(ctx.needed, back), ctx.needed, gradient, strict=True):
            part.copy_(row[..., :n])
        return None, None, *back


def _cuts(needed: Sequence[int], ribbons: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
    """The columns (C, h, n) of each line, in views of the ribbons."""
    rest = iter(needed)
    for ribbon in ribbons:
        start = 0
        while start < ribbon.shape[3]:
            n = next(rest)
            yield ribbon[0, ..., start : start + n]
            start += n + 2 * SIDE


def seams(needed: Sequence[int], full: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns (S,) of the seams that follow each line, and (S,) whether they are blank (True) or zero."""
    ends = torch.tensor(needed).cumsum(0) + 2 * SIDE * torch.arange(len(needed))
    offsets = torch.arange(2 * SIDE)
    is_blank = (torch.tensor(needed)[:, None] < full) & (offsets < SIDE)
    return tuple(table.flatten().to(device, non_blocking=True) for table in (ends[:, None] + offsets, is_blank))


def needed_columns(width: int, full: int) -> int:
    """Columns of the maps that a text of ``width`` pixels can change; all ``full`` if they touch the right border's."""
    columns = -(-width // STEP) + 1 + REACH
    return columns if columns + REACH <= full else full
