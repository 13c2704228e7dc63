"""The bestiary: a drawn world of creatures and the small diffusion cascade trained on it."""

import os

# Before ONNX Runtime is imported, which would look up a host of its maker and write to the home folder.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

WORLD_VERSION = "2"
