// Images per second in time, with k6: k6 run --env TARGET=127.0.0.1:7100 --env RATE=4 docs/load/k6.js
import { Client, Stream, StatusOK } from 'k6/net/grpc';
import { Counter, Trend } from 'k6/metrics';

const target = __ENV.TARGET || '127.0.0.1:7100';
const deadline = __ENV.DEADLINE || '10s';

export const options = {
  // Images are messages of up to a few MiB that k6 need not keep.
  discardResponseBodies: true,
  scenarios: {
    images: {
      executor: 'constant-arrival-rate',
      rate: Number(__ENV.RATE || 4),
      duration: __ENV.DURATION || '60s',
      preAllocatedVUs: 50,
      maxVUs: 500,
    },
  },
};

const drawn = new Counter('images_drawn');
const failed = new Counter('images_failed');
const latency = new Trend('image_latency', true);
const client = new Client();

export default async function () {
  if (__ITER === 0) {
    client.connect(target, { plaintext: true, reflect: true, maxReceiveSize: 64 << 20 });
  }
  const begun = Date.now();
  const stream = new Stream(client, 'reverie.generation.v1.GenerationService/Generate', {
    timeout: deadline,
  });
  await new Promise((resolve) => {
    let status = StatusOK;
    stream.on('error', (error) => {
      status = error.code;
    });
    stream.on('end', () => {
      if (status === StatusOK) {
        drawn.add(1);
        latency.add(Date.now() - begun);
      } else {
        failed.add(1, { status: String(status) });
      }
      resolve();
    });
    stream.write({ prompt: 'a small zunin on the left, snow', size: 64, seed: String(__ITER) });
    stream.end();
  });
}
