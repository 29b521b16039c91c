"""Scenes of one word as training samples, drawn from a seed: the data of the mini model."""

from __future__ import annotations

import pickle
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from anytext_lib.data.anyword import AnnotatedImage, Annotation
from anytext_lib.data.batch import Sample
from anytext_lib.data.sample import SampleConfig, build_sample
from anytext_lib.scenes.painting import SceneStyle
from anytext_lib.scenes.rendering import Scene, render_scene
from anytext_lib.scenes.words import SPLITS, draw_chinese, draw_word, words_of

SIZE = (64, 192)  # of the mini model's scenes: height and width in pixels
STYLE = SceneStyle(fonts=("Montserrat", "Oswald", "RobotoSlab", "Fredoka", "ComicNeue", "DMSerifDisplay"),
                   backgrounds=("flat", "gradient", "radial", "paper"), signs=False, spaced=0.0, margin=(0.05, 0.4))
"""Plain scenes.  The boxes are so high that their width limits the size of the glyphs: the hint, in another font, is as
wide as the word in the picture."""
MIXED = SceneStyle(fonts=("OpenSans", "Montserrat", "Oswald", "EBGaramond", "DMSerifDisplay", "RobotoSlab",
                          "JetBrainsMono", "Fredoka", "Merienda", "Caveat", "PatrickHand", "ComicNeue"),
                   backgrounds=STYLE.backgrounds, signs=False, spaced=0.0, margin=STYLE.margin, any_ink=True,
                   contrast=3.3)
"""As plain, in twelve fonts and in any colours; Chinese words are in the four Chinese fonts."""
STYLES = {"plain": STYLE, "mixed": MIXED}
_SCENE, _SAMPLE, _EPOCH = 1, 2, 3  # streams of random numbers


class SceneDataset(Dataset):
    """Rendered scenes with one word each, as samples.

    The scene of item i, its word included, depends on the seed, the split and i only, and so does the sample, whatever
    was asked for before; only ``caption_dropout`` is drawn anew in every epoch.

    Args:
        config: how samples are made; None takes generation samples of 64 x 192 pixels.
        seed: of everything random.
        split: "train", "validation" or "test": whose words are written (see ``words``).
        epoch_length: number of scenes.
        invented: probability of a made-up word; by default a half in "train" and none in the other splits.
        effects: tilt, perspective, shadows, blur, uneven light and noise; off, letters stand upright and clear.
        caption_dropout: probability that the image caption is empty, so that the model can be guided.
        style: fonts, backgrounds and inks to choose from; a name in ``STYLES`` or a style of one's own.
        two_lines: probability of a second line.
        chinese: probability that a line is a Chinese word of two characters.
        cache: keep the samples in memory, compressed to about 20 KiB each, so that only the first epoch draws.

    Raises:
        ValueError: unknown split, or no scene at all.
    """

    def __init__(self, config: SampleConfig | None = None, seed: int = 0, split: str = "train",
                 epoch_length: int = 8192, invented: float | None = None, effects: bool = False,
                 caption_dropout: float = 0.0, cache: bool = True, style: SceneStyle | str = "plain",
                 two_lines: float = 0.0, chinese: float = 0.0):
        words_of(split)
        if isinstance(style, str) and style not in STYLES:
            raise ValueError(f"there is no style {style!r}: choose {' or '.join(STYLES)}")
        if epoch_length < 1:
            raise ValueError(f"epoch_length is the number of scenes, at least 1, got {epoch_length}")
        self.invented = (0.5 if split == "train" else 0.0) if invented is None else invented
        for name, value in {"invented": self.invented, "caption_dropout": caption_dropout, "two_lines": two_lines,
                            "chinese": chinese}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is a probability in [0, 1], got {value}")
        self.config = config or SampleConfig(image_size=SIZE, mask_ratio=0.0, font_hint_prob=0.0,
                                            max_lines=2 if two_lines else 1)
        self.style = STYLES[style] if isinstance(style, str) else style
        self.two_lines, self.chinese = two_lines, chinese
        self.seed, self.split, self.epoch_length, self.effects = int(seed), split, epoch_length, effects
        self.caption_dropout, self.epoch = caption_dropout, 0
        self._kept: dict[int, bytes] | None = {} if cache else None

    def __len__(self) -> int:
        return self.epoch_length

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose captions are dropped."""
        self.epoch = int(epoch)

    def scene(self, i: int) -> Scene:
        """Render the scene of item ``i``; words that do not fit are drawn again, in another scene."""
        rng = self._rng(_SCENE, i)
        while True:
            texts, seed = self._texts(rng), int(rng.integers(2**48))
            try:
                return render_scene(seed, self.config.image_size, texts=texts, invalid=0.0, effects=self.effects,
                                    style=self.style)
            except ValueError:
                continue

    def _texts(self, rng: np.random.Generator) -> list[str]:
        """The words of a scene; nothing is drawn for an option that is off."""
        count = 1 + bool(self.two_lines and rng.random() < self.two_lines)
        return [(draw_chinese if self.chinese and rng.random() < self.chinese else draw_word)(
            rng, self.split, self.invented) for _ in range(count)]

    def __getitem__(self, i: int) -> Sample:
        """Sample ``i``; IndexError if there is none."""
        i = int(i)
        if not -len(self) <= i < len(self):
            raise IndexError(f"item {i} of a data set of {len(self)} scenes")
        sample = self._sample(i % len(self))
        if self.caption_dropout and self._rng(_EPOCH, i, self.epoch).random() < self.caption_dropout:
            return replace(sample, caption="")
        return sample

    def _sample(self, i: int) -> Sample:
        if self._kept is not None and i in self._kept:
            return pickle.loads(zlib.decompress(self._kept[i]))
        scene = self.scene(i)
        sample = build_sample(scene.image, scene_record(scene), self.config, self._rng(_SAMPLE, i))
        sample = replace(sample, index=i)
        if self._kept is not None:
            self._kept[i] = zlib.compress(pickle.dumps(sample, protocol=pickle.HIGHEST_PROTOCOL), 1)
        return sample

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, list(SPLITS).index(self.split), *stream])


def scene_record(scene: Scene) -> AnnotatedImage:
    """The annotation of a scene in the form of AnyWord; there is no file of that name."""
    name = f"scene_{scene.seed}.png"
    return AnnotatedImage(Path(name), name, scene.caption, [
        Annotation(line.polygon, line.text, line.language, line.valid, line.color) for line in scene.lines])
