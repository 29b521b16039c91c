"""Sizes of UDiffText: "sd2" as published, "mini" for a laptop, "tiny" for tests."""

from __future__ import annotations

SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _vae(channels: list[int], groups: int, scaling_factor: float, layers: int = 1, attention: bool = False) -> dict:
    return {"in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": channels,
            "down_block_types": ["DownEncoderBlock2D"] * len(channels),
            "up_block_types": ["UpDecoderBlock2D"] * len(channels), "layers_per_block": layers,
            "norm_num_groups": groups, "scaling_factor": scaling_factor, "mid_block_add_attention": attention}


def _unet(channels: list[int], attention_levels: tuple[int, ...], heads: int | list[int], context: int, groups: int,
          layers: int = 1, **more) -> dict:
    plain = [level not in attention_levels for level in range(len(channels))]
    return {"in_channels": 9, "out_channels": 4, "block_out_channels": channels, "layers_per_block": layers,
            "down_block_types": ["DownBlock2D" if p else "CrossAttnDownBlock2D" for p in plain],
            "up_block_types": ["UpBlock2D" if p else "CrossAttnUpBlock2D" for p in reversed(plain)],
            "attention_head_dim": heads, "cross_attention_dim": context, "norm_num_groups": groups, **more}


SIZES: dict[str, dict] = {
    "tiny": {
        "unet": _unet([16, 32], (0, 1), 2, 32, 8), "vae": _vae([8, 8, 16], 4, 1.0),
        "label_encoder": {"width": 32, "layers": 1, "heads": 2, "feedforward": 32, "dropout": 0.1},
        "scheduler": SCHEDULE,
    },
    "mini": {
        "unet": _unet([64, 64, 96], (1, 2), 4, 128, 16), "vae": _vae([16, 32, 64], 1, 1.0),
        "label_encoder": {"width": 128, "layers": 3, "heads": 4, "feedforward": 256, "dropout": 0.0},
        "scheduler": SCHEDULE,
    },
    "sd2": {
        "unet": _unet([320, 640, 1280, 1280], (0, 1, 2), [5, 10, 20, 20], 2048, 32, layers=2,
                      use_linear_projection=True),
        "vae": _vae([128, 256, 512, 512], 32, 0.18215, layers=2, attention=True),
        "label_encoder": {}, "scheduler": SCHEDULE,
    },
}
"""Arguments of diffusers' UNet2DConditionModel and AutoencoderKL, and of LabelEncoderConfig."""
