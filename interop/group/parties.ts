/** The processes of a group: a key server, members that bridge plain RTP, and who speaks and listens behind them. */
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type { Place } from "../namespaces.js";
import { type Finishing, lastJson, type ProcessResult, type RunningProcess, startProcess } from "../process.js";
import { until } from "../until.js";
import { MAIN, script } from "../watchword.js";

export const CONTROL = "239.255.78.1:2269";
export const MEDIA = "239.255.78.2:5004";
/** Milliseconds for a whole run: a third of it where the machine has nothing else to do. */
export const LIMIT = 120_000;
const SEGMENT = "near";
const GROUP = "blue";
const IN = 5004;
const OUT = 6004;
const FRAME = 160;
const FRAMES_PER_SECOND = 50;

export interface Server {
  readonly place: Place;
  readonly folder: string;
  readonly host: string;
  process: RunningProcess;
}

/** Who may join, with their keys. */
const MEMBERS = ["speaker", "one", "two", "three", "four", "five", "late"] as const;
export type Name = (typeof MEMBERS)[number];

const identityOf = (name: Name): string => `sip:${name}@example.org`;

export function temporaryFolder(test: Finishing): string {
  const folder = mkdtempSync(join(tmpdir(), "watchword-group-"));
  test.onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Runs a program in a namespace. */
export function start(test: Finishing, place: Place, command: string, args: readonly string[]): RunningProcess {
  return startProcess(test, ...place.inside(command, args), { limit: LIMIT });
}

const hear = (test: Finishing, place: Place, name: string, args: readonly string[]): RunningProcess =>
  start(test, place, process.execPath, [script("group", name), ...args]);

/** Writes everything that a key server needs, and starts it. @param rekey what the group's `rekey` has beside the address */
export async function startKeyServer(test: Finishing, place: Place, rekey: Readonly<Record<string, unknown>>): Promise<Server> {
  const folder = temporaryFolder(test);
  const { address: host = "", device = "" } = place.at[SEGMENT] ?? {};
  const keep = (name: string, text: string): void => writeFileSync(join(folder, name), text, { mode: 0o600 });
  const { privateKey } = generateKeyPairSync("ed25519");
  keep("signing.key", privateKey.export({ type: "pkcs8", format: "pem" }) as string);
  keep("store.key", randomBytes(32).toString("hex"));
  keep("token", randomBytes(16).toString("hex"));
  keep("keys", MEMBERS.map((name) => `${identityOf(name)}:${randomBytes(16).toString("hex")}\n`).join(""));
  // JSON is YAML.
  const config = {
    identity: `sip:gcks@${host}`,
    keys: "keys",
    signingKey: "signing.key",
    store: { file: "store.db", key: { file: "store.key" } },
    sip: [{ transport: "tcp", listen: `${host}:5060` }],
    rtsp: [{ listen: `${host}:8554` }],
    control: { interface: device, listen: `${host}:2269` },
    admin: { listen: "127.0.0.1:8270", token: { file: "token" } },
    groups: [
      {
        name: GROUP,
        members: [
          { identity: identityOf("speaker"), role: "sender" },
          { identity: "sip:*@example.org", role: "receiver" },
        ],
        streams: [
          {
            media: "audio",
            formats: [0],
            lines: ["a=rtpmap:0 PCMU/8000"],
            address: MEDIA.split(":")[0],
            port: Number(MEDIA.split(":")[1]),
          },
        ],
        // Nobody else may lose a packet: senders wait until everybody has the new keys.
        rekeyOnExpel: "activation-delay",
        rekey: { address: CONTROL, server: `${host}:2269`, ...rekey },
      },
    ],
  };
  keep("group.yaml", JSON.stringify(config, undefined, 2));
  const server: Server = { place, folder, host, process: runKeyServer(test, place, folder) };
  await server.process.match(/"groups":/);
  return server;
}

function runKeyServer(test: Finishing, place: Place, folder: string): RunningProcess {
  return start(test, place, process.execPath, [MAIN, "gcks", "--config", join(folder, "group.yaml"), "--json"]);
}

/** kill -9, and a new process over the same files some time later. */
export async function crashKeyServer(test: Finishing, server: Server, milliseconds: number): Promise<void> {
  await server.process.stop("SIGKILL");
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  server.process = runKeyServer(test, server.place, server.folder);
  await server.process.match(/"groups":/);
}

/** `watchword admin` beside the key server. */
export async function administer<T>(test: Finishing, { place, folder }: Server, ...args: readonly string[]): Promise<T> {
  const [operation = "", ...operands] = args;
  const flags = ["--token-file", join(folder, "token"), "--json"];
  const result = await start(test, place, process.execPath, [MAIN, "admin", operation, ...operands, ...flags]).ended;
  expect(result.code, result.stderr).toBe(0);
  return lastJson<T>(result);
}

/** What `watchword join --json` says. */
export interface Happening {
  readonly event: "joined" | "state" | "rekey" | "failure" | "refused" | "left" | "ended";
  readonly state?: string;
  readonly reason?: string;
  readonly sequence?: number;
  readonly proof?: string;
  readonly error?: { readonly code: string; readonly message: string };
  readonly statistics?: readonly Statistics[];
}

export interface Statistics {
  readonly sent: number;
  readonly unsent: number;
  readonly received: number;
  readonly refused: number;
  readonly unknownKey: number;
}

export class Member {
  readonly name: Name;
  readonly process: RunningProcess;

  constructor(name: Name, process: RunningProcess) {
    this.name = name;
    this.process = process;
  }

  get happenings(): readonly Happening[] {
    const lines = this.process.stdout.split("\n").slice(0, -1);
    return lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as Happening);
  }

  /** Newest sequence that it has installed. */
  get sequence(): number {
    return Math.max(0, ...this.happenings.map(({ sequence }) => sequence ?? 0));
  }

  get state(): string | undefined {
    return this.happenings.findLast(({ state }) => state !== undefined)?.state;
  }

  /** After the end. */
  get statistics(): Statistics {
    const found = this.happenings.findLast(({ statistics }) => statistics !== undefined)?.statistics?.[0];
    if (found === undefined)
      throw new Error(`${this.name} said nothing at its end: ${this.process.stdout}\n${this.process.stderr}`);
    return found;
  }

  /** Leaves, as by ^C. */
  leave(): Promise<ProcessResult> {
    return this.process.stop("SIGINT");
  }
}

type Carrier = "sip" | "rtsp";

/** `watchword join`: plain RTP goes in at IN, and comes out at OUT, on loopback of the namespace. */
export async function joinGroup(
  test: Finishing,
  server: Server,
  place: Place,
  name: Name,
  by: Carrier,
  flags: readonly string[] = [],
): Promise<Member> {
  const { host, folder } = server;
  const uri = by === "sip" ? `sip:${GROUP}@${host}:5060;transport=tcp` : `rtsp://${host}:8554/${GROUP}`;
  const [device] = Object.values(place.at).map((cable) => cable.device);
  const bridge =
    name === "speaker"
      ? ["--role", "sender", "--in", `rtp://127.0.0.1:${IN}`]
      : ["--role", "receiver", "--out", `rtp://127.0.0.1:${OUT}`];
  const args = ["--identity", identityOf(name), "--psk-file", join(folder, "keys"), "--interface", device ?? "", ...flags];
  const member = new Member(name, start(test, place, process.execPath, [MAIN, "join", uri, ...args, ...bridge, "--json"]));
  await member.process.match(/"event":"joined"/);
  return member;
}

/** Waits until all have the newest keys, those of the one that joined last included. */
export async function settled(members: readonly Member[], least = 0, milliseconds = 20_000): Promise<void> {
  const late = (): readonly Member[] => {
    const newest = Math.max(least, ...members.map(({ sequence }) => sequence));
    return members.filter(({ state, sequence }) => state !== "in-step" || sequence !== newest);
  };
  try {
    await until("all in step", () => late().length === 0, milliseconds);
  } catch (error) {
    const stories = members.map(({ name, process }) => `${name}:\n${process.stdout}${process.stderr}`);
    throw new Error(stories.join("\n"), { cause: error });
  }
}

/** The end: silence, a farewell, and everybody goes by itself. */
export async function conclude(test: Finishing, server: Server, voice: RunningProcess, members: readonly Member[]): Promise<void> {
  await voice.stop("SIGINT");
  await new Promise((resolve) => setTimeout(resolve, 500));
  await administer(test, server, "end", GROUP);
  for (const member of members) expect((await member.process.ended).code, member.process.stderr).toBe(0);
}

/** The number of a frame, in digits that survive being decoded and encoded again. */
function frame(number: number): Uint8Array {
  const octets = new Uint8Array(FRAME).fill(0x15);
  octets.set([(number >> 12) & 63, (number >> 6) & 63, number & 63]);
  return octets;
}

/** ffmpeg sends frames that are numbered, as plain RTP, at the pace of sound, until it is stopped. */
export function speak(test: Finishing, place: Place): RunningProcess {
  const file = join(temporaryFolder(test), "frames.ul");
  writeFileSync(file, Buffer.concat(Array.from({ length: (LIMIT / 1000) * FRAMES_PER_SECOND }, (_, number) => frame(number))));
  const input = ["-re", "-f", "mulaw", "-ar", "8000", "-ac", "1", "-i", file];
  const output = ["-af", `asetnsamples=n=${FRAME}`, "-c:a", "pcm_mulaw", "-f", "rtp", `rtp://127.0.0.1:${IN}`];
  return start(test, place, "ffmpeg", ["-hide_banner", "-loglevel", "error", ...input, ...output]);
}

/** Who listens behind a member. */
export interface Listener {
  /** Ends it. @returns the numbers of the frames, in the order in which they came */
  stop(): Promise<number[]>;
}

export interface Tap extends Listener {
  /** Packets so far, and the frame of the last one. */
  readonly heard: { readonly packets: number; readonly last: number };
  /** Waits for so many more. */
  more(packets: number): Promise<void>;
  /** Frames by the sequence number of their packets. */
  stopped(): Promise<readonly { readonly sequence: number; readonly frame: number }[]>;
}

/** A program of ours. */
export async function tap(test: Finishing, place: Place): Promise<Tap> {
  const listening = hear(test, place, "tap.js", [String(OUT)]);
  await listening.match(/listening/);
  const heard = () => {
    const [, packets = "0", last = "-1"] = [...listening.stdout.matchAll(/^heard (\d+) last (\d+)$/gm)].at(-1) ?? [];
    return { packets: Number(packets), last: Number(last) };
  };
  const stopped = async () => lastJson<{ sequence: number; frame: number }[]>(await listening.stop());
  return {
    get heard() {
      return heard();
    },
    async more(packets) {
      const before = heard().packets;
      await until(`${packets} packets more`, () => heard().packets >= before + packets);
    },
    stopped,
    stop: async () => (await stopped()).map(({ frame }) => frame),
  };
}

function framesIn(file: string): number[] {
  const octets = readFileSync(file);
  return Array.from({ length: Math.floor(octets.length / FRAME) }, (_, index) => {
    const [high = 0, middle = 0, low = 0] = octets.subarray(index * FRAME);
    return (high << 12) | (middle << 6) | low;
  });
}

function listener(listening: RunningProcess, file: string): Listener {
  return {
    async stop() {
      const { stderr, code, signal } = await listening.stop("SIGINT");
      const frames = existsSync(file) ? framesIn(file) : [];
      if (frames.length === 0) throw new Error(`nothing was heard (${code}, ${signal}): ${stderr}`);
      return frames;
    },
  };
}

/** ffmpeg, which is told by SDP what comes. It does not wait for what was lost: nothing overtakes anything here. */
function ffmpeg(test: Finishing, place: Place): Listener {
  const folder = temporaryFolder(test);
  const [description, file] = [join(folder, "in.sdp"), join(folder, "out.ul")];
  const lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0", `m=audio ${OUT} RTP/AVP 0`];
  writeFileSync(description, `${lines.join("\r\n")}\r\n`);
  const probing = ["-analyzeduration", "300000", "-probesize", "2000", "-reorder_queue_size", "0"];
  const input = ["-protocol_whitelist", "file,udp,rtp", ...probing, "-i", description];
  const output = ["-c", "copy", "-f", "mulaw", "-flush_packets", "1", file];
  return listener(start(test, place, "ffmpeg", ["-hide_banner", "-loglevel", "error", ...input, ...output]), file);
}

function gstreamer(test: Finishing, place: Place): Listener {
  const file = join(temporaryFolder(test), "out.ul");
  const caps = "caps=application/x-rtp,media=audio,clock-rate=8000,encoding-name=PCMU,payload=0";
  const source = ["udpsrc", "address=127.0.0.1", `port=${OUT}`, caps];
  const pipeline = [...source, "!", "rtppcmudepay", "!", "filesink", `location=${file}`, "buffer-mode=unbuffered"];
  return listener(start(test, place, "gst-launch-1.0", ["-q", "-e", ...pipeline]), file);
}

const LISTENERS = { ffmpeg, gstreamer } as const;

/** A member, and who listens behind it. */
export interface Receiver {
  readonly member: Member;
  readonly listener: Listener;
}

/** Somebody who listens from before it is a member. */
export async function receive(
  test: Finishing,
  server: Server,
  place: Place,
  name: Name,
  by: Carrier,
  behind: keyof typeof LISTENERS,
  ...flags: readonly string[]
): Promise<Receiver> {
  const listener = LISTENERS[behind](test, place);
  return { member: await joinGroup(test, server, place, name, by, flags), listener };
}

export interface Relayed {
  readonly seen: number;
  readonly lost: number;
  readonly handed: number;
  /** Of RTP. */
  readonly sequences: readonly number[];
}

export interface Relay {
  /** Cuts the way, or joins it again. */
  toggle(): Promise<void>;
  stop(): Promise<Readonly<Record<string, Relayed>>>;
}

/** Multicast from one segment to another, with losses. */
export async function startRelay(test: Finishing, place: Place, from: string, to: string, loss: number): Promise<Relay> {
  const groups = [CONTROL, MEDIA];
  const addresses = [place.at[from]?.address ?? "", place.at[to]?.address ?? ""];
  const relay = hear(test, place, "relay.js", [...addresses, String(loss), "1", ...groups]);
  for (const group of groups) await relay.match(new RegExp(`relaying ${group}`));
  let turns = 0;
  return {
    async toggle() {
      process.kill(relay.pid, "SIGUSR2");
      turns++;
      await until("the relay turns", () => (relay.stdout.match(/^(?:cut|joined)$/gm) ?? []).length === turns);
    },
    stop: async () => lastJson<Record<string, Relayed>>(await relay.stop()),
  };
}

/** Somebody who records before it is a member. */
export async function startTape(test: Finishing, place: Place): Promise<{ play(): Promise<number> }> {
  const [address = ""] = Object.values(place.at).map((cable) => cable.address);
  const tape = hear(test, place, "tape.js", [address, MEDIA]);
  await tape.match(/recording/);
  return {
    async play() {
      process.kill(tape.pid, "SIGUSR2");
      return Number((await tape.match(/^played (\d+)$/m))[1]);
    },
  };
}
