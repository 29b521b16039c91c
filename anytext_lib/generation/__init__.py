"""From a request to a picture: the sampler, and the pipeline that writes words into pictures."""

from anytext_lib.diffusion import ddim_timesteps

_PLACES = {
    "AnyText2Output": "pipeline", "AnyText2Pipeline": "pipeline", "Defaults": "request", "Line": "request",
    "Request": "request", "RequestError": "request", "Settings": "request", "Progress": "denoise",
    "ddim_sample": "denoise", "make_scheduler": "denoise", "sample_images": "denoise", "unconditional": "denoise",
}

__all__ = ["ddim_timesteps", *_PLACES]  # noqa: PLE0604


def __getattr__(name: str):
    """Load a name when it is asked for: diffusers takes seconds to import, and requests need none of it."""
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
