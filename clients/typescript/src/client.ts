// What a program needs around the generated code: a call that is repeated while the mesh is busy, and the image of its answer.
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  GenerateRequestSchema,
  GenerationService,
  type GeneratedImage,
} from "./gen/reverie/generation/v1/generation_service_pb.js";

/** Calls at most, the first included. */
const ATTEMPTS = 4;
/** Milliseconds before the second; doubled before each further one. */
const FIRST_WAIT = 250;

/** What is drawn, and how long the caller waits. */
export interface Order {
  prompt: string;
  size?: number;
  seed?: bigint;
  /** Milliseconds for all calls together. The mesh is told, and does not begin what cannot be done in time. */
  timeout: number;
  /** Gives the image up: the mesh stops in the middle of it. */
  signal?: AbortSignal;
}

/**
 * Draws an image. The same seed gives the same image, so a call that ended with UNAVAILABLE or RESOURCE_EXHAUSTED may be repeated.
 *
 * @throws ConnectError with the gRPC code and the mesh's message.
 */
export async function draw(transport: Transport, order: Order): Promise<GeneratedImage> {
  const client = createClient(GenerationService, transport);
  const { prompt, size, seed, timeout, signal } = order;
  const request = create(GenerateRequestSchema, { prompt, size, seed });
  const end = Date.now() + timeout;
  for (let attempt = 1; ; attempt++) {
    try {
      let image: GeneratedImage | undefined;
      for await (const { event } of client.generate(request, { timeoutMs: end - Date.now(), signal })) {
        if (event.case === "image") {
          image = event.value;
        }
      }
      if (image) {
        return image;
      }
      throw new ConnectError("the stream ended without an image", Code.Internal);
    } catch (thrown) {
      const error = ConnectError.from(thrown);
      const wait = FIRST_WAIT * 2 ** (attempt - 1) * (0.5 + Math.random());
      const isBusy = error.code === Code.Unavailable || error.code === Code.ResourceExhausted;
      if (!isBusy || attempt === ATTEMPTS || Date.now() + wait >= end) {
        throw error;
      }
      await new Promise((done) => setTimeout(done, wait));
      signal?.throwIfAborted();
    }
  }
}
