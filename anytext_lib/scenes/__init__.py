"""Pictures with writing, rendered from a seed: exact polygons, many fonts and backgrounds, and data sets of them."""

_PLACES = {
    "render_line": "lettering", "Scene": "rendering", "SceneLine": "rendering", "SceneStyle": "painting",
    "render_scene": "rendering", "render_batch": "rendering", "scene_batch": "rendering",
    "SceneDataset": "scene_dataset",
    "Problem": "sample_set", "build_samples": "sample_set", "load_samples": "sample_set",
    "verify_manifest": "sample_set",
}

__all__ = list(_PLACES)  # noqa: PLE0604


def __getattr__(name: str):
    """Load a name when it is asked for: ``sample_set`` is also a command (python -m anytext_lib.scenes.sample_set)."""
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
