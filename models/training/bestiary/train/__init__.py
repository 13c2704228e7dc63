"""Trainers: `python -m bestiary.train <model> --config configs/<model>.toml`."""
