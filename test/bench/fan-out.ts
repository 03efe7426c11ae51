import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { median } from "./paired-rounds.js";
import { plainPacket, writeSequence } from "./workload.js";

export interface FanOutOptions {
  readonly receivers: number;
  readonly rounds: number;
  /** Packets of the source in a round. */
  readonly packets: number;
}

/** What one backend of `watchword serve` did: medians of the rounds. */
export interface FanOutResult {
  readonly backend: string;
  readonly payload: number;
  /** Packets that left for receivers and were decrypted there. */
  readonly packetsPerSecond: number;
  /** Processor time of the server, microseconds. */
  readonly cpuPerPacket: number;
  /** Share that was lost between the sockets. */
  readonly loss: number;
}

const MAIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const RECEIVERS = fileURLToPath(new URL("fan-out-receivers.ts", import.meta.url));
/** Without WebAssembly sessions take the portable transforms over node:crypto. */
const BACKENDS = [
  { backend: "kernel+node", flags: [] },
  { backend: "node", flags: ["--no-expose-wasm"] },
];
const PAYLOADS = [160, 1200];
/** Packets of the source that are under way at a time: enough that the server never waits. */
const WINDOW = 4;
/** Milliseconds without progress after which packets count as lost. */
const PATIENCE = 300;

/** One source, one server and its receivers. */
class FanOut {
  readonly #server: ChildProcess;
  readonly #receivers: ChildProcess;
  readonly #source: Socket;
  readonly #port: number;
  #sequence = 0;
  #received = 0;
  #progress: () => void = () => {};

  private constructor(server: ChildProcess, receivers: ChildProcess, source: Socket, port: number) {
    this.#server = server;
    this.#receivers = receivers;
    this.#source = source;
    this.#port = port;
  }

  static async start(flags: readonly string[], count: number, folder: string): Promise<FanOut> {
    const source = createSocket("udp4");
    const port = await freePorts();
    const sdp = join(folder, `${port}.sdp`);
    writeFileSync(sdp, `v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio ${port} RTP/AVP 0\n`);
    const psk = randomBytes(32).toString("hex");
    const command = [MAIN, "serve", "--listen", "127.0.0.1:0", "--source", "rtp", "--sdp", sdp, "--psk", `viewer:${psk}`];
    const server = spawn(process.execPath, [...flags, ...command, "--max-sessions", `${count}`], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    const url = (await firstLine(server)).replace("listening ", "");
    const receivers = spawn(process.execPath, ["--import", "tsx", RECEIVERS, url, `${count}`, psk], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const fanOut = new FanOut(server, receivers, source, port);
    const lines = createInterface({ input: receivers.stdout as NodeJS.ReadableStream });
    await new Promise<void>((resolve, reject) => {
      receivers.once("exit", () => reject(new Error("the receivers ended")));
      lines.on("line", (line) => {
        if (line === "playing") resolve();
        else fanOut.#received = Number(line);
        fanOut.#progress();
      });
    });
    return fanOut;
  }

  /** Packets per second, processor time per packet in microseconds, loss. */
  async round(payload: number, packets: number, count: number): Promise<readonly [number, number, number]> {
    const packet = plainPacket(payload);
    const before = this.#received;
    const [cpu, start] = [processorTime(this.#server.pid as number), performance.now()];
    for (let sent = 0; sent < packets; sent++) {
      // Whatever was lost does not come: the window moves on after a while.
      await this.#until(() => this.#received - before >= (sent - WINDOW + 1) * count);
      writeSequence(packet, this.#sequence++ & 0xffff);
      // A copy, as Node refers to the octets until they are sent.
      this.#source.send(packet.slice(), this.#port, "127.0.0.1");
    }
    await this.#until(() => this.#received - before >= packets * count);
    const elapsed = performance.now() - start;
    this.#receivers.stdin?.write("?\n");
    await this.#until(() => false);
    const delivered = this.#received - before;
    const used = (processorTime(this.#server.pid as number) - cpu) / 1000;
    return [(delivered * 1000) / elapsed, used / (packets * count), 1 - delivered / (packets * count)];
  }

  async close(): Promise<void> {
    this.#source.close();
    this.#receivers.stdin?.end();
    const ended = [this.#receivers, this.#server].map((child) => (child.exitCode === null ? once(child, "exit") : undefined));
    this.#server.kill();
    await Promise.all(ended);
  }

  /** Waits until something holds, or for nothing that progresses any more. */
  async #until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      const isLate = await new Promise<boolean>((resolve) => {
        const timer = setTimeout(() => resolve(true), PATIENCE);
        this.#progress = () => {
          clearTimeout(timer);
          resolve(false);
        };
      });
      if (isLate) return;
    }
  }
}

async function firstLine(child: ChildProcess): Promise<string> {
  const [line] = (await once(createInterface({ input: child.stdout as NodeJS.ReadableStream }), "line")) as [string];
  return line;
}

/** An even port that was free a moment ago, like the next one. */
async function freePorts(): Promise<number> {
  const socket = createSocket("udp4");
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address();
  socket.close();
  return port & ~1;
}

/** Nanoseconds that all threads of a process have run (Linux). */
function processorTime(pid: number): number {
  const times = readdirSync(`/proc/${pid}/task`).map((task) =>
    Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]),
  );
  return times.reduce((sum, time) => sum + time, 0);
}

/** `watchword serve`, compiled, with and without the kernel, in paired rounds against the same number of receivers. */
export async function benchFanOut({ receivers, rounds, packets }: FanOutOptions): Promise<FanOutResult[]> {
  const folder = mkdtempSync(join(tmpdir(), "watchword-fan-out-"));
  const started: { backend: string; fanOut: FanOut }[] = [];
  try {
    for (const { backend, flags } of BACKENDS) {
      started.push({ backend, fanOut: await FanOut.start(flags, receivers, folder) });
    }
    const results: FanOutResult[] = [];
    for (const payload of PAYLOADS) {
      const measured = started.map(() => [] as (readonly [number, number, number])[]);
      for (let round = -1; round < rounds; round++) {
        for (const [i, { fanOut }] of started.entries()) {
          const one = await fanOut.round(payload, packets, receivers);
          if (round >= 0) measured[i]?.push(one);
        }
      }
      started.forEach(({ backend }, i) => {
        const column = (at: 0 | 1 | 2): number => median((measured[i] ?? []).map((one) => one[at]));
        results.push({ backend, payload, packetsPerSecond: column(0), cpuPerPacket: column(1), loss: column(2) });
      });
    }
    return results;
  } finally {
    await Promise.all(started.map(({ fanOut }) => fanOut.close()));
    rmSync(folder, { recursive: true, force: true });
  }
}
