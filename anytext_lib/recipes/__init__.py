"""What trained the shipped weights: commands of their own, reached by ``python -m anytext_lib.recipes.NAME``."""
