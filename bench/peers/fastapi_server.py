"""A service of FastAPI: an image per call, PEER_CONCURRENCY of them at a time in each process.

PEER_THREADS=1 PEER_CONCURRENCY=2 uvicorn fastapi_server:app --port 8000
"""

import os
import threading

import pipeline
from fastapi import FastAPI, Response
from pydantic import BaseModel

app = FastAPI()
cascade = pipeline.of_environment()
slots = threading.Semaphore(int(os.environ["PEER_CONCURRENCY"]))


class Wanted(BaseModel):
    prompt: str
    size: int = 64
    seed: int = 0


# Not async: FastAPI runs it on a thread, so that calls overlap.
@app.post("/predict")
def predict(wanted: Wanted) -> Response:
    with slots:
        [image] = cascade.draw([wanted.prompt], [wanted.seed], wanted.size)
    return Response(image, media_type="image/png")
