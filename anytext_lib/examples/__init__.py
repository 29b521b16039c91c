"""Training scripts of other people's form, with the reading losses in them: short, to be copied and changed."""
