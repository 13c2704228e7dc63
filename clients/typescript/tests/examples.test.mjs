// The examples against a mesh that this starts: REVERIE names the program `reverie`, CHROMIUM a browser, without which the page is left out.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import puppeteer from "puppeteer-core";

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), "reverie-example-"));
const prompt = "a small zunin on the left, snow";
let mesh, url, pages, origin;

/** The files of dist/, as a site would serve them. */
function serve() {
  const kinds = { html: "text/html", js: "text/javascript" };
  const server = createServer((request, response) => {
    const name = new URL(request.url, "http://localhost").pathname.slice(1);
    const kind = kinds[name.split(".").pop()];
    if (name.includes("/") || kind === undefined) {
      response.writeHead(404).end();
    } else {
      response.writeHead(200, { "content-type": kind }).end(readFileSync(join("dist", name)));
    }
  });
  return new Promise((done) => server.listen(0, "127.0.0.1", () => done(server)));
}

before(async () => {
  pages = await serve();
  origin = `http://127.0.0.1:${pages.address().port}`;
  const settings = ["--listen", "127.0.0.1:0", "--set", `pipeline.server.web.origins=["${origin}"]`];
  mesh = spawn(process.env.REVERIE, ["serve", ...settings], { cwd: "../..", stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: mesh.stdout })) {
    url = `http://${line.match(/^listening on (.*)$/)[1]}`;
    break;
  }
});

after(() => {
  mesh?.kill("SIGKILL");
  pages?.close();
  rmSync(folder, { recursive: true });
});

const draw = (...args) => run(process.execPath, ["dist/draw.js", ...args], { env: { ...process.env, REVERIE_URL: url } });

test("a back end draws an image", async () => {
  const file = join(folder, "image.png");
  const { stdout } = await draw("--size", "256", "--seed", "7", prompt, file);
  assert.match(stdout, /seed 7/);
  const image = readFileSync(file);
  assert.equal(image.subarray(1, 4).toString(), "PNG");
  assert.deepEqual([image.readUInt32BE(16), image.readUInt32BE(20)], [256, 256]);
});

test("what is wrong is told", async () => {
  const file = join(folder, "none.png");
  await assert.rejects(draw("--size", "100", prompt, file), /invalid_argument.*size/s);
  await assert.rejects(draw("--timeout", "0.01", prompt, file), /deadline_exceeded/);
});

test("a page draws an image", { skip: !process.env.CHROMIUM && "CHROMIUM names no browser" }, async () => {
  const browser = await puppeteer.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  try {
    const said = async (page) => {
      await page.waitForFunction('document.querySelector("output").textContent !== "drawing"', { timeout: 60_000 });
      return page.$eval("output", (output) => output.textContent);
    };
    const page = await browser.newPage();
    await page.goto(`${origin}/page.html?server=${url}&size=256&seed=7`);
    assert.equal(await said(page), "drawn: 256 px, seed 7");
    // What the mesh says of a wrong request reaches the page, too.
    await page.goto(`${origin}/page.html?server=${url}&size=100`);
    assert.match(await said(page), /failed: .*invalid_argument.*size/s);
    // Another site may not.
    const others = await serve();
    try {
      const failed = [];
      page.on("requestfailed", (request) => failed.push(`${request.method()} ${request.failure().errorText}`));
      await page.goto(`http://127.0.0.1:${others.address().port}/page.html?server=${url}&size=256`);
      assert.match(await said(page), /failed/);
      assert.deepEqual([...new Set(failed)], ["POST net::ERR_FAILED"]);
      // It is the browser that keeps it from the mesh: a page of the first site draws as before.
      await page.goto(`${origin}/page.html?server=${url}&size=256&seed=7`);
      assert.equal(await said(page), "drawn: 256 px, seed 7");
    } finally {
      others.close();
    }
  } finally {
    await browser.close();
  }
});
