"""Full fine-tuning on Lightning: one module, one data module, small callbacks, `anytext fit` and `anytext validate`."""

_PLACES = {
    "AnyText2Training": "module", "AnyTextData": "data", "learning_rate_factor": "module",
    "RunStateError": "run_files",
}

__all__ = list(_PLACES)  # noqa: PLE0604


def __getattr__(name: str):
    """Import a name on first use: Lightning takes seconds to import."""
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
