// Draws an image from a back end: gRPC over HTTP/2.
//
//   REVERIE_URL=http://127.0.0.1:7100 node dist/draw.js "a small zunin on the left, snow" zunin.png
//
// REVERIE_TLS_AUTHORITIES names the authorities (PEM) of an https:// address, and REVERIE_API_KEY is the key. Ctrl-C cancels the call.
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { ConnectError, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { draw } from "./client.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: "string" },
    size: { type: "string" },
    timeout: { type: "string", default: "60" },
  },
});
const [prompt, file] = positionals;
if (prompt === undefined || file === undefined) {
  console.error('usage: node dist/draw.js [--size PIXELS] [--seed N] [--timeout SECONDS] "PROMPT" FILE');
  process.exit(2);
}

const { REVERIE_URL = "http://127.0.0.1:7100", REVERIE_TLS_AUTHORITIES, REVERIE_API_KEY } = process.env;
const withKey: Interceptor = (next) => (request) => {
  request.header.set("authorization", `Bearer ${REVERIE_API_KEY}`);
  return next(request);
};
const transport = createGrpcTransport({
  baseUrl: REVERIE_URL,
  interceptors: REVERIE_API_KEY === undefined ? [] : [withKey],
  nodeOptions: REVERIE_TLS_AUTHORITIES === undefined ? {} : { ca: readFileSync(REVERIE_TLS_AUTHORITIES) },
});

const leaving = new AbortController();
process.once("SIGINT", () => leaving.abort());
try {
  const { image, seed } = await draw(transport, {
    prompt,
    size: values.size === undefined ? undefined : Number(values.size),
    seed: values.seed === undefined ? undefined : BigInt(values.seed),
    timeout: 1000 * Number(values.timeout),
    signal: leaving.signal,
  });
  if (image === undefined) {
    throw new Error("the answer has no image");
  }
  writeFileSync(file, image.data);
  console.log(`${file}: seed ${seed}`);
} catch (error) {
  console.error(error instanceof ConnectError ? error.message : error);
  process.exit(1);
}
