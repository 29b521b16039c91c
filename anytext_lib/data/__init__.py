"""Annotated pictures: the AnyWord format, lines of text, fonts and glyphs, samples and batches."""

_PLACES = {
    "AnnotatedImage": "anyword", "Annotation": "anyword", "AnyWordError": "anyword_stream", "read_anyword": "anyword",
    "write_anyword": "anyword", "TextLines": "lines", "BadLineError": "lines", "BadLineWarning": "lines",
    "line_quad": "lines", "AnyTextBatch": "batch", "Sample": "batch", "collate": "batch", "SampleConfig": "sample",
    "build_sample": "sample", "AnyWordDataset": "dataset", "BadImageWarning": "dataset", "FontFace": "fonts",
    "MissingGlyphError": "fonts", "UnknownFontError": "fonts", "font_path": "fonts", "fonts_for": "fonts",
    "load_fonts": "fonts", "draw_glyphs": "glyphs", "render_glyph_line": "glyphs", "PictureError": "pictures",
    "read_picture": "pictures", "normal_text": "texts", "data_folder": ".files",
    "to_tensor": "batch", "to_uint8": "batch",
    # names that once lived here
    "Scene": ".scenes", "SceneLine": ".scenes", "render_scene": ".scenes", "scene_batch": ".scenes",
    "render_line": ".scenes", "load_samples": ".scenes", "build_samples": ".scenes", "verify_manifest": ".scenes",
}

__all__ = list(_PLACES)  # noqa: PLE0604


def __getattr__(name: str):
    """Load a name when it is asked for: checking data needs no torch."""
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f".{_PLACES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
