"""Where training keeps checkpoints and logs: never inside the repository."""

import os
from pathlib import Path


def training_dir() -> Path:
    """`$REVERIE_TRAINING_DIR`, or `~/.cache/reverie/training`; created when missing."""
    root = Path(os.environ.get("REVERIE_TRAINING_DIR", "~/.cache/reverie/training")).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    return root
