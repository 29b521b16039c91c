"""Diffusers' text-to-image training loop in Stable Diffusion 1.5's form, at a tiny size, with AnyText2's objective.

    python -m anytext_lib.examples.text_to_image

For the real thing load all parts by ``from_pretrained``.  What the reading losses add is marked.
"""
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from anytext_lib.losses import AnyText2Objective  # added
from anytext_lib.ocr import PPOCRv3Recognizer  # added
from anytext_lib.scenes import render_scene, scene_batch  # stands for a data set of pictures with known lines


def main() -> None:
    """Train for three steps."""
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(8, 8, 8, 8), down_block_types=["DownEncoderBlock2D"] * 4, norm_num_groups=4,
                        up_block_types=["UpDecoderBlock2D"] * 4).requires_grad_(False)
    text_encoder = CLIPTextModel(CLIPTextConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                                                num_attention_heads=2)).requires_grad_(False)
    unet = UNet2DConditionModel(block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=32,
                                norm_num_groups=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    objective = AnyText2Objective(PPOCRv3Recognizer.from_pretrained(), scheduler,  # added
                                  lambda z: vae.decode(z / vae.config.scaling_factor).sample,
                                  loss_alpha=0.003, loss_beta=0.001)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4)

    for step in range(3):
        images, lines, invalid_mask = scene_batch([render_scene(seed=2 * step + i) for i in range(2)])
        tokens = torch.randint(49408, (2, 77))  # stands for the tokenizer
        latents = vae.encode(images).latent_dist.sample() * vae.config.scaling_factor
        noise, timesteps = torch.randn_like(latents), torch.randint(1000, (2,))
        noisy_latents = scheduler.add_noise(latents, noise, timesteps)
        output = unet(noisy_latents, timesteps, text_encoder(tokens).last_hidden_state).sample
        terms = objective(output, latents, noise, timesteps, images, lines, invalid_mask)  # was mse_loss(output, noise)
        terms.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step}: " + ", ".join(f"{name} {float(value):.4f}" for name, value in terms.log("train").items()))


if __name__ == "__main__":
    main()
