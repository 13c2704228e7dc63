"""The bestiary: a drawn world of creatures and the small diffusion cascade trained on it."""

WORLD_VERSION = "2"
