import { createWriteStream, type WriteStream } from "node:fs";
import { concatBytes, utf8, type WatchwordError, Writer } from "../bytes/index.js";
import type { Clock, Endpoint } from "../io/index.js";
import { nodeError } from "./errors.js";
import type { MediaSink } from "./media.js";
import { steadyClock, systemClock } from "./time.js";

/** Where a recording goes and what its header says. */
export interface RtpdumpOptions {
  readonly path: string;
  /** The address that the header names; players ignore it. Default 0.0.0.0:0. */
  readonly source?: Endpoint;
  readonly clock?: Clock;
  /** Times the packets; must not jump. */
  readonly steady?: Clock;
}

/** Octets that may wait for a slow disk before packets are left out. */
const MAX_QUEUED = 64 << 20;
/** Octets of a packet's header in the file: length, original length, offset in milliseconds. */
const PACKET_HEADER = 8;

/**
 * Records RTP and RTCP in the format of rtptools (`rtpdump`, `rtpplay`), which Wireshark reads too: a text line, a file
 * header, then each packet behind its length and arrival time. RTCP carries the original length 0. Tracks share the file:
 * their payload types and SSRCs tell them apart.
 * @throws (rejects) WatchwordError `node.file` or `node.permission` when the file cannot be made; `close` rejects with the
 * error of a write that failed later
 */
export function createRtpdumpWriter(options: RtpdumpOptions): Promise<MediaSink> {
  const what = `write ${options.path}`;
  return new Promise((resolve, reject) => {
    const file = createWriteStream(options.path);
    file.once("error", (error) => reject(nodeError(error, what)));
    file.once("open", () => {
      file.removeAllListeners("error");
      resolve(new RtpdumpWriter(file, what, options));
    });
  });
}

class RtpdumpWriter implements MediaSink {
  readonly #file: WriteStream;
  readonly #steady: Clock;
  readonly #startedAt: number;
  #error: WatchwordError | undefined;
  #closing: Promise<void> | undefined;

  constructor(file: WriteStream, what: string, options: RtpdumpOptions) {
    this.#file = file;
    this.#steady = options.steady ?? steadyClock;
    this.#startedAt = this.#steady.now();
    file.on("error", (error) => {
      this.#error ??= nodeError(error, what);
    });
    file.write(fileHeader(options.source ?? { host: "0.0.0.0", port: 0 }, (options.clock ?? systemClock).now()));
  }

  rtp(_track: number, packet: Uint8Array): void {
    this.#packet(packet, packet.length);
  }

  rtcp(_track: number, packet: Uint8Array): void {
    this.#packet(packet, 0);
  }

  #packet(packet: Uint8Array, originalLength: number): void {
    if (this.#closing !== undefined || this.#error !== undefined) return;
    if (packet.length + PACKET_HEADER > 0xffff || this.#file.writableLength > MAX_QUEUED) return;
    const header = new Writer("rtpdump", PACKET_HEADER);
    header.u16("length", packet.length + PACKET_HEADER);
    header.u16("originalLength", originalLength);
    header.u32("offset", Math.floor(this.#steady.now() - this.#startedAt) % 2 ** 32);
    this.#file.write(concatBytes(header.finish(), packet));
  }

  close(): Promise<void> {
    this.#closing ??= new Promise((resolve, reject) => {
      const done = (): void => (this.#error === undefined ? resolve() : reject(this.#error));
      if (this.#file.closed) done();
      else {
        this.#file.once("close", done);
        this.#file.end();
      }
    });
    return this.#closing;
  }
}

function fileHeader(source: Endpoint, now: number): Uint8Array {
  const parts = source.host.split(".").map(Number);
  const address =
    parts.length === 4 && parts.every((part) => Number.isInteger(part) && part >= 0 && part < 256) ? parts : [0, 0, 0, 0];
  const writer = new Writer("rtpdump");
  writer.bytes(utf8(`#!rtpplay1.0 ${address.join(".")}/${source.port}\n`));
  writer.u32("seconds", Math.floor(now / 1000) % 2 ** 32);
  writer.u32("microseconds", (Math.floor(now) % 1000) * 1000);
  writer.bytes(Uint8Array.from(address));
  writer.u16("port", source.port);
  writer.u16("padding", 0);
  return writer.finish();
}
