from __future__ import annotations

import threading
import time
from pathlib import Path

import grpc
import pytest
from conftest import Mesh
from PIL import Image

from reverie_client import (
    Client,
    GenerateRequest,
    Progress,
    RetrieveRequest,
    ReverieError,
    TlsSettings,
)

PROMPT = "a small zunin on the left, snow"


def quick(seed: int, size: int = 64, steps: int = 4) -> GenerateRequest:
    request = GenerateRequest(prompt=PROMPT, size=size, seed=seed)
    request.base_sampling.steps = steps
    return request


def test_images_are_drawn_with_their_neighbours(client: Client) -> None:
    seen: list[Progress] = []
    drawn = client.generate(PROMPT, size=256, seed=7, steps=4, count=2, on_progress=seen.append)
    assert [it.image.size for it in drawn.drawings] == [(256, 256)] * 2
    assert [it.seed for it in drawn.drawings] == [7, 8]
    assert drawn.image is drawn.drawings[0].image
    assert {it.id.split("-")[0] for it in drawn.neighbours} == {"zunin"}
    assert all(it.image is not None and "zunin" in it.caption for it in drawn.neighbours)
    assert {it.stage for it in seen} >= {"encode", "retrieve", "base", "super_resolution"}
    assert drawn.completed.guidance.text_weight > 0
    again = client.generate(PROMPT, size=256, seed=8, steps=4)
    assert again.drawings[0].data == drawn.drawings[1].data, "a seed draws the same image"


def test_references_of_ones_own_and_none(client: Client) -> None:
    found = client.search("a zunin", limit=2)
    assert len(found) == 2
    assert found[0].score > 0
    image = found[0].image
    assert image is not None
    own = client.generate(PROMPT, size=64, seed=1, steps=2, references={"a zunin": image})
    assert [it.caption for it in own.neighbours] == ["a zunin"]
    none = client.generate(PROMPT, size=64, seed=1, steps=2, neighbours=0)
    assert none.neighbours == ()
    assert none.drawings[0].data != own.drawings[0].data
    both = client.generate(PROMPT, size=64, seed=1, steps=2, neighbours=1, references=[(image, "mine")])
    assert [it.caption == "mine" for it in both.neighbours] == [True, False]


def test_an_image_is_drawn_from_another_one(client: Client, tmp_path: Path) -> None:
    start, mask = Image.new("RGB", (64, 64), (200, 30, 30)), Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 64))
    start.save(tmp_path / "start.png")
    drawn = client.generate(PROMPT, size=64, seed=1, steps=4, initial=tmp_path / "start.png", mask=mask)
    assert drawn.image.convert("RGB").getpixel((5, 5)) == (200, 30, 30), "what is black is kept"
    with pytest.raises(ValueError, match="initial image"):
        client.generate(PROMPT, mask=mask)


def test_what_is_wrong_is_told_by_field(client: Client) -> None:
    with pytest.raises(ReverieError) as raised:
        client.generate("", size=100)
    error = raised.value
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert {it.field for it in error.fields} == {"prompt", "size"}
    assert "INVALID_ARGUMENT" in str(error)


def test_the_deadline_holds_and_leaving_ends_the_work(client: Client) -> None:
    begun = time.monotonic()
    with pytest.raises(ReverieError) as raised:
        client.generate(PROMPT, size=64, steps=1000, timeout=1.0)
    assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - begun < 3
    with client.stream(quick(3, steps=1000)) as events:
        assert next(events).WhichOneof("event") == "started"
    with pytest.raises(ReverieError) as raised:
        next(events)
    assert raised.value.code is grpc.StatusCode.CANCELLED
    assert client.draw(quick(3)).image.size == (64, 64)


def test_a_busy_mesh_is_asked_again(client: Client) -> None:
    results: list[object] = []

    def draw(seed: int) -> None:
        try:
            results.append(client.draw(quick(seed), attempts=20).image.size)
        except ReverieError as error:
            results.append(error)

    # More than one key may have in flight (half of the 64 places).
    threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(64, 64)] * 40


def test_who_may_not_is_told(mesh: Mesh) -> None:
    tls = TlsSettings(authorities=mesh.authorities)
    with Client(mesh.server, tls=tls) as nobody:
        with pytest.raises(ReverieError) as raised:
            nobody.generate(PROMPT)
        assert raised.value.code is grpc.StatusCode.UNAUTHENTICATED
    with Client(mesh.server, api_key=mesh.searcher_key, tls=tls) as searcher:
        assert searcher.search("a zunin", limit=1, images=False)[0].image is None
        with pytest.raises(ReverieError) as raised:
            searcher.generate(PROMPT)
        assert raised.value.code is grpc.StatusCode.PERMISSION_DENIED
        assert "generate" in raised.value.message
    with Client(mesh.server, api_key=mesh.key) as stranger:
        with pytest.raises(ReverieError) as raised:
            stranger.capabilities(timeout=5)
        assert raised.value.code is grpc.StatusCode.UNAVAILABLE


def test_what_the_mesh_can_do(client: Client) -> None:
    capabilities = client.capabilities()
    assert capabilities.base_size == 64
    assert [level.image_size for level in capabilities.levels] == [256, 1024]
    assert [base.name for base in capabilities.knowledge_bases] == ["creatures"]


def test_a_watcher_that_fails_ends_the_work(client: Client) -> None:
    def fail(_: Progress) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        client.draw(quick(3, steps=1000), on_progress=fail)
    assert client.draw(quick(3)).image.size == (64, 64)


def test_a_stream_can_be_cancelled_by_another_thread(client: Client) -> None:
    stream = client.stream(quick(3, steps=1000))
    threading.Timer(0.5, stream.cancel).start()
    begun = time.monotonic()
    with pytest.raises(ReverieError) as raised:
        stream.drawn()
    assert raised.value.code is grpc.StatusCode.CANCELLED
    assert time.monotonic() - begun < 3
    assert client.stream(quick(3)).drawn().image.size == (64, 64)


def test_a_watcher_that_fails_as_a_call_does_is_not_called_again(client: Client) -> None:
    calls: list[Progress] = []

    def fail(progress: Progress) -> None:
        calls.append(progress)
        raise ReverieError(grpc.StatusCode.UNAVAILABLE, "of its own")

    with pytest.raises(ReverieError, match="of its own"):
        client.draw(quick(3), on_progress=fail)
    assert len(calls) == 1


def test_pixels_of_the_kinds_that_png_has_not_are_drawn_from(client: Client) -> None:
    for mode in ("1", "I;16", "CMYK", "I"):
        start = Image.new(mode, (64, 64))
        drawn = client.generate(PROMPT, size=64, seed=1, steps=2, initial=start, strength=0.5)
        assert drawn.image.size == (64, 64), mode


def test_the_key_may_be_made_anew_for_every_call(mesh: Mesh) -> None:
    keys = iter([mesh.searcher_key, "rvk_unknown"])
    tls = TlsSettings(authorities=mesh.authorities)
    with Client(mesh.server, api_key=lambda: next(keys), tls=tls) as client:
        assert client.retrieve(RetrieveRequest(text="a zunin", limit=3))
        with pytest.raises(ReverieError) as raised:
            client.search("a zunin")
    assert raised.value.code is grpc.StatusCode.UNAUTHENTICATED
