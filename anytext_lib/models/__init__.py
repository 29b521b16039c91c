"""AnyText2's networks on diffusers and transformers, and the model that they make up."""

from anytext_lib.models.anytext2 import AnyText2Model, Conditions
from anytext_lib.models.attnx import AttnXUNet, ControlResiduals, build_attnx_unet, set_attnx_scale
from anytext_lib.models.caption_encoder import CaptionEncoder, PlaceholderError, TokenizerError
from anytext_lib.models.config import ModelConfigError, config_names, read_config
from anytext_lib.models.storage import StorageError
from anytext_lib.models.text_embedding import TextEmbedding
from anytext_lib.models.writenet import WriteNet

__all__ = [
    "AnyText2Model",
    "AttnXUNet",
    "CaptionEncoder",
    "Conditions",
    "ControlResiduals",
    "ModelConfigError",
    "PlaceholderError",
    "StorageError",
    "TextEmbedding",
    "TokenizerError",
    "WriteNet",
    "build_attnx_unet",
    "config_names",
    "read_config",
    "set_attnx_scale",
]
