"""A service of LitServe: PEER_WORKERS processes, each of which draws up to PEER_BATCH images together, which must be of one size.

PEER_THREADS=1 PEER_WORKERS=2 PEER_BATCH=4 python litserve_server.py PORT
"""

import os
import sys

import litserve
import pipeline
from fastapi import Response

BATCH = int(os.environ["PEER_BATCH"])


class Draw(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.cascade = pipeline.of_environment()

    def decode_request(self, request: dict) -> dict:
        return request

    def predict(self, wanted: dict | list[dict]) -> bytes | list[bytes]:
        every = wanted if isinstance(wanted, list) else [wanted]
        prompts, seeds = [one["prompt"] for one in every], [one["seed"] for one in every]
        images = self.cascade.draw(prompts, seeds, every[0]["size"])
        return images if isinstance(wanted, list) else images[0]

    def encode_response(self, image: bytes) -> Response:
        return Response(image, media_type="image/png")


if __name__ == "__main__":
    api = Draw(max_batch_size=BATCH, batch_timeout=0.005 if BATCH > 1 else 0.0)
    workers = int(os.environ["PEER_WORKERS"])
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, timeout=600)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
