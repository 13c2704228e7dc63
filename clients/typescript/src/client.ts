// What a program needs around the generated code: a call that is repeated while the mesh is busy, and the image of its answer.
import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  GenerateRequestSchema,
  GenerationService,
  type GeneratedImage,
} from "./gen/reverie/generation/v1/generation_service_pb.js";
import { RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";

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
  /** Cancels the call: the mesh stops in the middle of the image. */
  signal?: AbortSignal;
}

/**
 * Draws an image. The same seed gives the same image, so a call may be repeated: one that ended with UNAVAILABLE, and one that ended with
 * RESOURCE_EXHAUSTED and the time after which to try again. Without that time no retry helps.
 *
 * @throws ConnectError with the gRPC code and the mesh's message.
 */
export async function draw(transport: Transport, order: Order): Promise<GeneratedImage> {
  const client = createClient(GenerationService, transport);
  const { prompt, size, seed, timeout, signal } = order;
  const request = create(GenerateRequestSchema, { prompt, size, seed });
  const end = performance.now() + timeout;
  for (let attempt = 1; ; attempt++) {
    const timeoutMs = end - performance.now();
    if (timeoutMs <= 0) {
      throw new ConnectError("there was no time left", Code.DeadlineExceeded);
    }
    try {
      let image: GeneratedImage | undefined;
      for await (const { event } of client.generate(request, { timeoutMs, signal })) {
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
      const told = toldWait(error);
      const mayRetry = error.code === Code.Unavailable || (error.code === Code.ResourceExhausted && told > 0);
      const wait = Math.max(told, FIRST_WAIT * 2 ** (attempt - 1) * (0.5 + Math.random()));
      if (!mayRetry || attempt === ATTEMPTS || performance.now() + wait >= end) {
        throw error;
      }
      await new Promise((done) => setTimeout(done, wait));
      signal?.throwIfAborted();
    }
  }
}

/** Milliseconds after which the mesh says to try again (google.rpc.RetryInfo), or 0. */
function toldWait(error: ConnectError): number {
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay === undefined ? 0 : durationMs(delay);
}
