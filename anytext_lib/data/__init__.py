"""Annotated pictures: lines of text, fonts, rendered scenes, the AnyWord format, samples and batches, sample set."""

from anytext_lib.data.anyword import AnnotatedImage, Annotation, AnyWordError, read_anyword, write_anyword
from anytext_lib.data.batch import AnyTextBatch, Sample
from anytext_lib.data.collate import collate
from anytext_lib.data.dataset import AnyWordDataset, BadImageWarning
from anytext_lib.data.errors import DataNotFoundError, DataOptionError
from anytext_lib.data.folder import data_folder
from anytext_lib.data.fonts import FontFace, MissingGlyphError, UnknownFontError, font_path, fonts_for, load_fonts
from anytext_lib.data.glyphs import draw_glyphs, render_glyph_line
from anytext_lib.data.line_image import render_line, to_tensor, to_uint8
from anytext_lib.data.lines import TextLines
from anytext_lib.data.pictures import PictureError, read_picture
from anytext_lib.data.quads import BadLineError, BadLineWarning, line_quad
from anytext_lib.data.sample import SampleConfig, build_sample
from anytext_lib.data.scenes import Scene, SceneLine, render_scene, scene_batch
from anytext_lib.data.texts import normal_text

_SAMPLES = ("Problem", "build_samples", "load_samples", "verify_manifest")

__all__ = [
    "AnnotatedImage", "Annotation", "AnyWordError", "read_anyword", "write_anyword", "DataNotFoundError",
    "data_folder", "FontFace", "MissingGlyphError", "UnknownFontError", "font_path", "fonts_for", "load_fonts",
    "render_line", "to_tensor", "to_uint8", "TextLines", "BadLineError", "BadLineWarning", "line_quad", "Problem",
    "build_samples", "load_samples", "verify_manifest", "Scene", "SceneLine", "render_scene", "scene_batch",
    "AnyTextBatch", "Sample", "SampleConfig", "build_sample", "AnyWordDataset", "BadImageWarning", "collate",
    "draw_glyphs", "render_glyph_line", "DataOptionError", "PictureError", "read_picture", "normal_text",
]


def __getattr__(name: str):
    """Load ``samples`` when it is asked for: it is also a command (python -m anytext_lib.data.samples)."""
    if name in _SAMPLES:
        from anytext_lib.data import samples

        return getattr(samples, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
