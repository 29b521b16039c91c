"""Changes to a trained model's weights that come in files of their own: low-rank updates (LoRA) and base models.

    low_rank     the formula, and low-rank weights beside frozen ones, for training
    lora_files   files of such updates: the names that other programs use, read and written
    base_model   Stable Diffusion's layers taken from another model
    adaptation   Adaptation: which files and ratios; Adapter: puts them into a model, and takes them out again
"""
