// Draws an image from a page in a browser: grpc-web, which the pipeline speaks to the origins in server.web.origins.
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { draw } from "./client.js";

const options = new URLSearchParams(location.search);
const transport = createGrpcWebTransport({ baseUrl: options.get("server") ?? "http://127.0.0.1:7100" });
const said = document.querySelector("output")!;
const picture = document.querySelector("img")!;

try {
  const { image, seed } = await draw(transport, {
    prompt: options.get("prompt") ?? "a small zunin on the left, snow",
    size: Number(options.get("size") ?? 256),
    seed: BigInt(options.get("seed") ?? 7),
    timeout: 60_000,
  });
  picture.src = URL.createObjectURL(new Blob([new Uint8Array(image!.data)], { type: "image/png" }));
  await picture.decode();
  said.textContent = `drawn: ${picture.naturalWidth} px, seed ${seed}`;
} catch (error) {
  said.textContent = `failed: ${error}`;
}
