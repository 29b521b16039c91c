"""UDiffText: a loss on attention maps, a character-level label encoder, noise search and refinement.

Zhao and Lian, "UDiffText: A Unified Framework for High-quality Text Synthesis in Arbitrary Images via Character-aware
Diffusion Models", 2023.
"""

from anytext_lib.diffusion import add_sigma_noise, c_in, denoised, sampling_timesteps, sigma_levels
from anytext_lib.udifftext.attention import (
    AttentionMaps,
    attention_focus_loss,
    attention_memory,
    capture_attention,
    cross_attention_names,
    gaussian_kernel,
    head_mean,
    local_attention_loss,
    pick_tokens,
    smooth,
)
from anytext_lib.udifftext.euler import (
    Denoiser,
    NoiseChoice,
    Refinement,
    Target,
    euler_sample,
    refine_latents,
    select_noise,
)
from anytext_lib.udifftext.label_encoder import Characters, UnknownCharacterError
from anytext_lib.udifftext.word_losses import (
    UDiffTextObjective,
    UDiffTextTerms,
    denoising_loss,
    measure_sequence_accuracy,
    same_word,
    sequence_accuracy,
    sequence_loss,
    upright_boxes,
)

_PLACES = {
    "ImageTokens": "contrastive", "LabelEncoder": "label_encoder", "LabelEncoderConfig": "label_encoder",
    "PretrainingHeads": "contrastive", "Sampling": "euler", "UDiffTextModel": "model",
    "UDiffTextTraining": "word_training", "character_segments": "model", "contrastive_loss": "contrastive",
    "retrieval_accuracy": "contrastive", "write_words": "euler",
}

__all__ = [
    *_PLACES,  # noqa: PLE0604
    "AttentionMaps", "Characters", "Denoiser", "NoiseChoice", "Refinement", "Target", "UDiffTextObjective",
    "UDiffTextTerms", "UnknownCharacterError", "add_sigma_noise", "attention_focus_loss", "attention_memory", "c_in",
    "capture_attention", "cross_attention_names", "denoised", "denoising_loss", "euler_sample", "gaussian_kernel",
    "head_mean", "local_attention_loss", "measure_sequence_accuracy", "pick_tokens", "refine_latents", "same_word",
    "sampling_timesteps", "select_noise", "sequence_accuracy", "sequence_loss", "sigma_levels", "smooth",
    "upright_boxes",
]


def __getattr__(name: str):
    """Load a name when it is asked for: diffusers and Lightning take seconds to import."""
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
