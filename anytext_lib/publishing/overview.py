"""The README's picture: `python -m anytext_lib.publishing.overview` draws data_samples/overview.png."""

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch

from anytext_lib.course import style
from anytext_lib.data import data_folder
from anytext_lib.losses import ocr_loss
from anytext_lib.ocr import PPOCRv3Recognizer, crop_lines
from anytext_lib.scenes import load_samples, scene_batch
from anytext_lib.scenes.sample_set import write_manifest

SCENES, SPOILT = (17, 2), (8, 1, 6)  # sample scenes; which of their lines get a smudge
SIZE, TOP, SIDE, ROW = (11.3, 3.2), 2.86, 2.8, 0.255  # inches: figure, upper edge, side of a scene, height of a crop
TITLES = {0.03: "Scenes, with their lines of text", 5.92: "What the recogniser reads", 8.7: "Smudged, and the gradient"}


def smudged(crop: torch.Tensor, width: int) -> torch.Tensor:
    """A crop (3, H, W) with a smudge at 42 to 58 % of its width."""
    soft = torch.from_numpy(cv2.GaussianBlur(crop.permute(1, 2, 0).numpy(), (0, 0), 9)).permute(2, 0, 1)
    return torch.where((torch.arange(crop.shape[2]) / width - 0.5).abs() < 0.08, soft, crop)


def main() -> None:
    """Draw scenes with boxes, crops with readings, smudged crops with the OCR loss's gradient."""
    style.use()
    samples, reader = load_samples(), PPOCRv3Recognizer.from_pretrained()
    crops = crop_lines(*scene_batch(scenes := [samples[i] for i in SCENES])[:2])
    widths = [int(crop.abs().sum(dim=(0, 1)).nonzero().max()) + 1 for crop in crops]
    spoilt = torch.stack([smudged(crops[i], widths[i]) for i in SPOILT]).requires_grad_()
    loss = ocr_loss(reader(spoilt).features, reader(crops[list(SPOILT)]).features)
    gradient = torch.autograd.grad(loss.sum(), spoilt)[0].abs().sum(dim=1)
    fig = plt.figure(figsize=SIZE, layout="none")

    def place(picture, left, top, height, note="", **imshow):
        width = height * picture.shape[1] / picture.shape[0]
        ax = fig.add_axes((left / SIZE[0], (top - height) / SIZE[1], width / SIZE[0], height / SIZE[1]))
        ax.imshow(picture, aspect="auto", **imshow)
        ax.set_axis_off()
        fig.text((left + width + 0.1) / SIZE[0], (top - height / 2) / SIZE[1], note, va="center", fontsize=11.5)
        return ax
    for k, scene in enumerate(scenes):
        ax = place(cv2.resize(scene.image, (400, 400), interpolation=cv2.INTER_AREA), 0.03 + 2.88 * k, TOP, SIDE)
        for line in scene.valid_lines:
            ax.add_patch(plt.Polygon(line.polygon / 1.28, fill=False, edgecolor=style.PALETTE["yellow"], lw=1.6))
    for k, text in enumerate(reader.read(crops)):
        place(style.as_picture(crops[k, ..., :widths[k]]), 5.92, TOP - 1.247 * k * ROW, ROW, text)
    for k, (i, text) in enumerate(zip(SPOILT, reader.read(spoilt), strict=True)):
        place(style.as_picture(spoilt[k, ..., :widths[i]]), 8.7, TOP - 1.04 * k, 0.335, text)
        strength = gradient[k, :, :widths[i]].numpy()
        place(strength, 8.7, TOP - 1.04 * k - 0.365, 0.335, cmap="magma", vmax=np.quantile(strength, 0.99))
    for left, title in TITLES.items():
        fig.text(left / SIZE[0], 3.04 / SIZE[1], title, va="center", fontsize=12.5)
    (data_folder() / "overview.png").write_bytes(style.png_bytes(fig))
    write_manifest()


if __name__ == "__main__":
    main()
