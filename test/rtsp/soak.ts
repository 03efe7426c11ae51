/**
 * `npm run soak -- [--sessions N] [--seconds N] [--rate N] [--octets N] [--cpu-prof FOLDER]`: one encoder, one `watchword serve`, N clients that
 * play over UDP and interleaved by turns, all over loopback. Says what the server's memory, processor time and sockets do, and exits with 1
 * where packets are wrong or missing, memory grows, or sockets stay.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { formatHex } from "../../src/bytes/index.js";
import { createMediaKeying } from "../../src/gsa/index.js";
import type { Datagrams } from "../../src/io/index.js";
import { connectRtspClient, createDatagramsFactory, systemClock, systemTimers } from "../../src/node/index.js";
import { peerProfile } from "../../src/peers/index.js";
import { createMikeyClientKeying, identityOf, type RtspClient } from "../../src/rtsp/index.js";

/** What is played. */
export interface SoakOptions {
  /** Clients; every other one plays over TCP. */
  readonly sessions: number;
  /** Seconds of playing that are measured, after as many to warm up as `warmUp` says. */
  readonly seconds: number;
  readonly warmUp: number;
  /** Packets per second of the encoder, and octets of payload. */
  readonly rate: number;
  readonly octets: number;
  /** Flags of Node for the server. */
  readonly nodeFlags?: readonly string[];
  readonly say?: (line: string) => void;
}

/** What came of it. */
export interface SoakResult {
  /** Packets that the encoder sent while the clients were measured. */
  readonly sent: number;
  /** Least and most packets that a client got of them. */
  readonly leastReceived: number;
  readonly mostReceived: number;
  readonly lost: number;
  readonly authenticationFailures: number;
  /** Packets of the sampled clients that were compared octet by octet, and how many were not what the encoder sent. */
  readonly compared: number;
  readonly wrong: number;
  /** De-registrations that the server acknowledged. */
  readonly proven: number;
  /** Share of one processor, by the server, while the clients were measured. Undefined where the system does not say. */
  readonly processor: number | undefined;
  /** Octets of resident memory: of the server without a session, and once a second while the clients were measured. */
  readonly idleMemory: number | undefined;
  readonly memory: readonly number[];
  /** Sockets of the server: before, while playing, and after the last session. */
  readonly sockets: {
    readonly before: number | undefined;
    readonly playing: number | undefined;
    readonly after: number | undefined;
  };
}

const MAIN = resolve(import.meta.dirname, "../../dist/cli/main.js");
const NAME = "viewer";
/** One client of so many is compared octet by octet. */
const SAMPLE = 20;
/** Clients that are set up at a time. */
const AT_ONCE = 16;
/** Clock ticks per second in /proc (Linux: always 100 for programs). */
const TICKS = 100;

/** Plays once. Rejects where a session cannot be set up. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  const say = options.say ?? (() => {});
  const folder = mkdtempSync(join(tmpdir(), "soak-"));
  const key = globalThis.crypto.getRandomValues(new Uint8Array(16));
  const encoder = await createEncoder(options.octets);
  writeFileSync(join(folder, "encoder.sdp"), encoder.sdp);
  const server = await startServer(options, folder, key);
  const clients: Client[] = [];
  try {
    const before = socketsOf(server.process);
    const idleMemory = memoryOf(server.process);
    encoder.start(options.rate);
    const started = performance.now();
    for (let first = 0; first < options.sessions; first += AT_ONCE) {
      const numbers = Array.from({ length: Math.min(AT_ONCE, options.sessions - first) }, (_, index) => first + index);
      clients.push(...(await Promise.all(numbers.map((number) => play(server.url, number, key, encoder)))));
    }
    say(`${clients.length} sessions play after ${((performance.now() - started) / 1000).toFixed(1)} s`);
    await delay(options.warmUp * 1000);

    const counts = clients.map(({ client }) => packetsOf(client));
    const sentBefore = encoder.sent;
    const time = processorTimeOf(server.process);
    const from = performance.now();
    const memory: number[] = [];
    for (let second = 0; second < options.seconds; second++) {
      await delay(1000);
      const now = memoryOf(server.process);
      if (now !== undefined) memory.push(now);
      if (second % 10 === 9) say(`${second + 1} s: ${megabytes(now)} resident, ${socketsOf(server.process)} sockets`);
    }
    const elapsed = (performance.now() - from) / 1000;
    const timeAfter = processorTimeOf(server.process);
    const sent = encoder.sent - sentBefore;
    const received = clients.map(({ client }, index) => packetsOf(client) - (counts[index] as number));
    const playing = socketsOf(server.process);

    encoder.stop();
    await delay(500);
    const tracks = clients.flatMap(({ client }) => client.statistics);
    const verdicts: unknown[] = [];
    for (let first = 0; first < clients.length; first += AT_ONCE)
      verdicts.push(...(await Promise.all(clients.slice(first, first + AT_ONCE).map(({ client }) => client.teardown()))));
    return {
      sent,
      leastReceived: Math.min(...received),
      mostReceived: Math.max(...received),
      lost: tracks.reduce((sum, { lost }) => sum + lost, 0),
      authenticationFailures: tracks.reduce((sum, track) => sum + track.authenticationFailures, 0),
      compared: clients.reduce((sum, { compared }) => sum + compared, 0),
      wrong: clients.reduce((sum, { wrong }) => sum + wrong, 0),
      proven: verdicts.filter((verdict) => verdict === "verified").length,
      processor: time === undefined || timeAfter === undefined ? undefined : (timeAfter - time) / elapsed,
      idleMemory,
      memory,
      sockets: { before, playing, after: await settled(server.process, before) },
    };
  } finally {
    encoder.close();
    for (const { client } of clients) client.close();
    server.process.kill("SIGINT");
    if (server.process.exitCode === null) await once(server.process, "exit");
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Encoder {
  readonly sdp: string;
  sent: number;
  start(rate: number): void;
  stop(): void;
  close(): void;
  /** Whether a payload is one that was sent. */
  knows(payload: Uint8Array): boolean;
}

/** Plain RTP whose payload says its own number and is a function of it. */
async function createEncoder(octets: number): Promise<Encoder> {
  const factory = createDatagramsFactory();
  const socket: Datagrams = await factory.bind({ host: "127.0.0.1", port: 0 });
  const [rtp, rtcp] = await factory.bindPair("127.0.0.1");
  const target = rtp.local;
  rtp.close();
  rtcp.close();
  const packet = new Uint8Array(12 + octets);
  const view = new DataView(packet.buffer);
  const expected = new Uint8Array(octets);
  let timer: NodeJS.Timeout | undefined;
  const fill = (payload: Uint8Array, number: number): void => {
    for (let at = 4; at < payload.length; at++) payload[at] = Math.imul(number + at, 0x9e3779b1) >>> 24;
    new DataView(payload.buffer, payload.byteOffset).setUint32(0, number);
  };
  const encoder: Encoder = {
    sdp: `v=0\r\nm=video ${target.port} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n`,
    sent: 0,
    start(rate) {
      const started = performance.now();
      const first = encoder.sent;
      timer = setInterval(() => {
        const due = first + Math.floor(((performance.now() - started) * rate) / 1000);
        while (encoder.sent < due) {
          const number = encoder.sent++;
          packet[0] = 0x80;
          packet[1] = 96;
          view.setUint16(2, number & 0xffff);
          view.setUint32(4, (number * 1800) >>> 0);
          view.setUint32(8, 0x50414b21);
          fill(packet.subarray(12), number);
          socket.send(packet, target);
        }
      }, 10);
    },
    stop: () => clearInterval(timer),
    close() {
      clearInterval(timer);
      socket.close();
    },
    knows(payload) {
      if (payload.length !== octets) return false;
      const number = new DataView(payload.buffer, payload.byteOffset).getUint32(0);
      fill(expected, number);
      return number < encoder.sent && Buffer.compare(payload, expected) === 0;
    },
  };
  return encoder;
}

async function startServer(
  { sessions, nodeFlags = [] }: SoakOptions,
  folder: string,
  key: Uint8Array,
): Promise<{ readonly process: ChildProcess; readonly url: string }> {
  const flags = ["serve", "--listen", "127.0.0.1:0", "--source", "rtp", "--sdp", join(folder, "encoder.sdp")];
  const child = spawn(
    process.execPath,
    [...nodeFlags, MAIN, ...flags, "--psk", `${NAME}:${formatHex(key)}`, "--max-sessions", String(sessions)],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors = (errors + text).slice(-2000);
  });
  const url = await new Promise<string>((done, failed) => {
    let out = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text;
      const match = /^listening (\S+)$/m.exec(out);
      if (match?.[1] !== undefined) done(match[1]);
    });
    child.once("exit", () => failed(new Error(`the server ended: ${errors}`)));
  });
  return { process: child, url };
}

interface Client {
  readonly client: RtspClient;
  compared: number;
  wrong: number;
}

async function play(url: string, number: number, psk: Uint8Array, encoder: Encoder): Promise<Client> {
  const state = { compared: 0, wrong: 0 };
  const keying = createMikeyClientKeying({
    keying: createMediaKeying({
      clock: systemClock,
      timers: systemTimers,
      dialect: peerProfile("strict"),
      requirePsk: true,
      identity: identityOf(NAME),
      findCredential: () => ({ psk }),
    }),
    scope: `soak ${number}`,
  });
  const client = await connectRtspClient({
    url,
    keying,
    from: NAME,
    requestTimeout: 60_000,
    onRtp: (_track, packet) => {
      if (number % SAMPLE > 1) return;
      state.compared++;
      if (!encoder.knows(packet.subarray(12))) state.wrong++;
    },
  });
  await client.describe();
  await client.setup(0, number % 2 === 0 ? "udp" : "tcp");
  await client.play();
  return Object.assign(state, { client });
}

function packetsOf(client: RtspClient): number {
  return client.statistics[0]?.packets ?? 0;
}

/** Sockets once their number is what it was, or after 15 s. */
async function settled(child: ChildProcess, wanted: number | undefined): Promise<number | undefined> {
  for (let tries = 0; tries < 150 && socketsOf(child) !== wanted; tries++) await delay(100);
  return socketsOf(child);
}

function procFile(child: ChildProcess, name: string): string | undefined {
  try {
    return readFileSync(`/proc/${child.pid}/${name}`, "utf8");
  } catch {
    return undefined;
  }
}

function memoryOf(child: ChildProcess): number | undefined {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(procFile(child, "status") ?? "");
  return match === null ? undefined : Number(match[1]) * 1024;
}

/** Seconds, all threads together. */
function processorTimeOf(child: ChildProcess): number | undefined {
  const fields = procFile(child, "stat")
    ?.replace(/^.*\) /, "")
    .split(" ");
  return fields === undefined ? undefined : (Number(fields[11]) + Number(fields[12])) / TICKS;
}

function socketsOf(child: ChildProcess): number | undefined {
  try {
    const folder = `/proc/${child.pid}/fd`;
    return readdirSync(folder).filter((name) => {
      try {
        return readlinkSync(join(folder, name)).startsWith("socket:");
      } catch {
        return false;
      }
    }).length;
  } catch {
    return undefined;
  }
}

function megabytes(octets: number | undefined): string {
  return octets === undefined ? "unknown" : `${(octets / 2 ** 20).toFixed(1)} MiB`;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}

/** What is wrong with a result, in words; empty where nothing is. */
export function faults(result: SoakResult, sessions: number): string[] {
  const found: string[] = [];
  const { memory, sockets } = result;
  // What is under way at either end of the measured time, and what the encoder's own socket may lose.
  if (result.leastReceived < result.sent * 0.98 - 25) found.push(`a client got ${result.leastReceived} of ${result.sent} packets`);
  if (result.authenticationFailures > 0) found.push(`${result.authenticationFailures} packets were not authentic`);
  if (result.wrong > 0 || result.compared === 0) found.push(`${result.wrong} of ${result.compared} packets were not the encoder's`);
  if (result.proven !== sessions) found.push(`${result.proven} of ${sessions} sessions ended with proof`);
  if (sockets.after !== sockets.before) found.push(`${sockets.after} sockets stayed where ${sockets.before} were`);
  if (memory.length >= 15) {
    const third = Math.floor(memory.length / 3);
    const growth = median(memory.slice(-third)) - median(memory.slice(0, third));
    if (growth > Math.max(8 * 2 ** 20, 0.05 * median(memory))) found.push(`memory grew by ${megabytes(growth)}`);
  }
  return found;
}

function formatResult(result: SoakResult, { sessions, rate, octets }: SoakOptions): string {
  const { memory, sockets } = result;
  const usual = median(memory);
  return [
    `${sessions} sessions, ${rate} packets a second of ${octets} octets`,
    `packets    ${result.sent} sent, ${result.leastReceived} to ${result.mostReceived} received, ${result.lost} lost in all`,
    `compared   ${result.compared} octet by octet, ${result.wrong} wrong, ${result.authenticationFailures} not authentic`,
    `processor  ${result.processor === undefined ? "unknown" : `${(100 * result.processor).toFixed(0)} % of one`}`,
    `memory     ${megabytes(usual)} (${megabytes(Math.min(...memory))} to ${megabytes(Math.max(...memory))}), ${megabytes(result.idleMemory)} idle: ${((usual - (result.idleMemory ?? 0)) / sessions / 1024).toFixed(0)} KiB a session`,
    `sockets    ${sockets.before} before, ${sockets.playing} playing, ${sockets.after} after`,
    `proofs     ${result.proven} of ${sessions}`,
  ].join("\n");
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      sessions: { type: "string", default: "1000" },
      seconds: { type: "string", default: "60" },
      "warm-up": { type: "string", default: "20" },
      rate: { type: "string", default: "50" },
      octets: { type: "string", default: "160" },
      "cpu-prof": { type: "string" },
    },
  });
  const options: SoakOptions = {
    sessions: Number(values.sessions),
    seconds: Number(values.seconds),
    warmUp: Number(values["warm-up"]),
    rate: Number(values.rate),
    octets: Number(values.octets),
    nodeFlags: values["cpu-prof"] === undefined ? [] : ["--cpu-prof", "--cpu-prof-dir", values["cpu-prof"]],
    say: (line) => process.stdout.write(`${line}\n`),
  };
  const result = await soak(options);
  process.stdout.write(`${formatResult(result, options)}\n`);
  const found = faults(result, options.sessions);
  for (const fault of found) process.stdout.write(`FAULT ${fault}\n`);
  process.exitCode = found.length > 0 ? 1 : 0;
}

if (process.argv[1] === import.meta.filename) await main();
