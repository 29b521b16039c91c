"""Plans of experiments by name, decided before anything of them runs."""
