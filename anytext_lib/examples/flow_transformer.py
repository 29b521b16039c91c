"""A training loop of a rectified-flow transformer, in the form of Stable Diffusion 3 and FLUX, at a tiny size.

    python -m anytext_lib.examples.flow_transformer

The objective is a list of terms here: the flow's own loss, and the OCR loss weighted by min-SNR.
"""
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel

from anytext_lib.diffusion import process_of
from anytext_lib.losses import Instruments, Objective, Pictures, Step, Term, min_snr
from anytext_lib.losses.terms import ocr, simple
from anytext_lib.ocr import PPOCRv3Recognizer
from anytext_lib.scenes import render_scene, scene_batch  # stands for a data set of pictures with known lines


def main() -> None:
    """Train for three steps."""
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(8, 8, 8, 8), down_block_types=["DownEncoderBlock2D"] * 4, norm_num_groups=4,
                        up_block_types=["UpDecoderBlock2D"] * 4, latent_channels=16).requires_grad_(False)
    network = SD3Transformer2DModel(sample_size=96, num_layers=2, attention_head_dim=16, num_attention_heads=2,
                                    joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=64)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)  # shifts the noise levels towards more noise, as SD3
    instruments = Instruments(process_of(scheduler), lambda z: vae.decode(z / vae.config.scaling_factor).sample,
                              PPOCRv3Recognizer.from_pretrained())
    objective = Objective([Term("simple", simple), Term("ocr", ocr, 0.003, min_snr(5.0))])
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    for step in range(3):
        images, lines, invalid_mask = scene_batch([render_scene(seed=2 * step + i) for i in range(2)])
        prompts, pooled = torch.randn(2, 77, 32), torch.randn(2, 64)  # stand for the text encoders
        latents = vae.encode(images).latent_dist.sample() * vae.config.scaling_factor
        noise = torch.randn_like(latents)
        sigma = torch.sigmoid(torch.randn(2))  # logit-normal, as SD3 is trained
        timesteps = 1000 * 3 * sigma / (1 + 2 * sigma)  # shifted by 3
        noisy_latents = instruments.process.add_noise(latents, noise, timesteps)
        output = network(noisy_latents, prompts, pooled, timesteps).sample
        values = objective(Step(latents, noise, timesteps, output, Pictures(images, lines, invalid_mask), instruments))
        values.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step}: " + ", ".join(f"{name} {float(value):.4f}" for name, value in values.log().items()))


if __name__ == "__main__":
    main()
