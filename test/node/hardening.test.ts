import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { afterEach, describe, expect, it } from "vitest";
import {
  connectRtspClient,
  createToneSource,
  type RtspService,
  type RtspServiceOptions,
  startRtspService,
} from "../../src/node/index.js";
import { makeSelfSigned } from "./self-signed.js";

const services: RtspService[] = [];
const sockets: Socket[] = [];
const children: ChildProcess[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(services.splice(0).map((service) => service.close()));
  for (const child of children.splice(0)) {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }
});

async function serve(options: Partial<RtspServiceOptions> = {}): Promise<RtspService> {
  const service = await startRtspService({
    host: "127.0.0.1",
    port: 0,
    presentations: [{ path: "/s", source: createToneSource(), profile: "RTP/AVP" }],
    ...options,
  });
  services.push(service);
  return service;
}

const portOf = (url: string): number => Number(new URL(url.replace(/^rtsps?/, "http")).port);

async function dial(port: number): Promise<Socket & { heard: string }> {
  const socket = Object.assign(connect(port, "127.0.0.1"), { heard: "" });
  sockets.push(socket);
  socket.on("error", () => {});
  socket.on("data", (octets) => {
    socket.heard += octets.toString("latin1");
  });
  await once(socket, "connect");
  return socket;
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 500 && !condition(); tries++) await delay(20);
  expect(condition()).toBe(true);
}

async function expectServed(service: RtspService, insecure = false): Promise<void> {
  let packets = 0;
  const client = await connectRtspClient({ url: service.url("/s"), insecure, onRtp: () => packets++ });
  try {
    await client.describe();
    await client.setup(0, "tcp");
    await client.play();
    await until(() => packets > 0);
    await client.teardown();
  } finally {
    client.close();
  }
}

const OPTIONS = "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n";

describe("a server on real sockets", () => {
  it("answers requests of which every octet comes alone", async () => {
    const service = await serve();
    const socket = await dial(portOf(service.url("")));
    socket.setNoDelay(true);
    for (const octet of `$\0\0\x03abc${OPTIONS}`) {
      socket.write(octet, "latin1");
      await delay(1);
    }
    await until(() => socket.heard.includes("RTSP/1.0 200 OK"));
  });

  it("answers what a client asked before it closed its half, then closes", async () => {
    const service = await serve();
    const socket = await dial(portOf(service.url("")));
    socket.end(OPTIONS);
    await once(socket, "close");
    expect(socket.heard).toContain("RTSP/1.0 200 OK");
    await until(() => service.server.connections === 0);
    await expectServed(service);
  });

  it("ends 100 000 pipelined requests early", async () => {
    const service = await serve();
    const socket = await dial(portOf(service.url("")));
    const many = Buffer.from(OPTIONS.repeat(1000));
    for (let n = 0; n < 100 && !socket.destroyed; n++) {
      if (!socket.write(many)) await Promise.race([once(socket, "drain"), once(socket, "close")]);
    }
    await until(() => socket.destroyed);
    await until(() => service.server.connections === 0);
    await expectServed(service);
  });

  it("lets silent connections go for one that speaks", async () => {
    const service = await serve({ maxConnections: 100 });
    const port = portOf(service.url(""));
    await Promise.all(Array.from({ length: 100 }, () => dial(port)));
    await until(() => service.server.connections === 100);
    await delay(1100);
    await expectServed(service);
    expect(service.server.connections).toBeLessThanOrEqual(100);
  });

  it("survives clients that leave in the middle of everything", async () => {
    const service = await serve();
    const port = portOf(service.url(""));
    const setup = "SETUP rtsp://127.0.0.1/s/track1 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n";
    for (let length = 1; length < setup.length; length += 9) {
      const socket = await dial(port);
      socket.write(setup.slice(0, length), () => socket.resetAndDestroy());
    }
    await until(() => service.server.connections === 0);
    expect(service.server.sessions).toHaveLength(0);
    await expectServed(service);
  });

  it("survives TLS that ends in the middle of a message, wants to renegotiate, or never begins", async () => {
    const credentials = makeSelfSigned();
    const service = await serve({ tls: { cert: credentials.cert, key: credentials.key } });
    const port = portOf(service.url(""));
    const mute = await dial(port);
    mute.write(Buffer.from([22, 3, 1, 2]));
    for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
      const socket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false, maxVersion });
      sockets.push(socket);
      socket.on("error", () => {});
      await once(socket, "secureConnect");
      socket.write("DESCRIBE rtsp://127.0.0.1/s RTSP/1.0\r\nCSe");
      if (maxVersion === "TLSv1.2") await new Promise<void>((done) => void socket.renegotiate({}, () => done()));
      socket.destroy();
    }
    await until(() => service.server.connections === 0);
    await expectServed(service, true);
  });
});

describe.skipIf(process.platform === "win32")("a server with few file descriptors", () => {
  it("says so at the start, takes as many connections as it can, and lets silent ones go", async () => {
    const main = resolve(import.meta.dirname, "../../dist/cli/main.js");
    const command = 'ulimit -n 200 && exec "$0" "$@"';
    const child = spawn(
      "sh",
      ["-c", command, process.execPath, main, "serve", "--listen", "127.0.0.1:0", "--allow-null-keying", "--max-sessions", "500"],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    children.push(child);
    let out = "";
    let errors = "";
    child.stdout.on("data", (octets: Buffer) => {
      out += octets.toString();
    });
    child.stderr.on("data", (octets: Buffer) => {
      errors += octets.toString();
    });
    await until(() => /^listening \S+$/m.test(out) && errors.includes("ulimit"));
    expect(errors).toMatch(/may open 200 files: it takes 104 connections at a time; raise the limit \(ulimit -n\)/);
    const port = portOf(/rtsp:\S+/.exec(out)?.[0] ?? "");
    const first = await dial(port);
    const many = await Promise.all(Array.from({ length: 250 }, () => dial(port)));
    await until(() => many.filter(({ closed }) => closed).length >= 250 - 104);
    first.write(OPTIONS);
    await until(() => first.heard.includes("RTSP/1.0 200 OK"));
    await delay(1100);
    const next = await dial(port);
    next.write(OPTIONS);
    await until(() => next.heard.includes("RTSP/1.0 200 OK"));
  });
});
