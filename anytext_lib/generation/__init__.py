"""From conditions to images."""

from anytext_lib.generation.sampling import ddim_sample, ddim_timesteps, sample_images, unconditional

__all__ = ["ddim_sample", "ddim_timesteps", "sample_images", "unconditional"]
