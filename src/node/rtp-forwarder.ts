import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { WatchwordError } from "../bytes/index.js";
import type { Datagrams, DatagramsFactory, Endpoint } from "../io/index.js";
import type { MediaTrack } from "../rtsp/index.js";
import { createDatagramsFactory } from "./datagrams.js";
import { nodeError } from "./errors.js";
import type { MediaSink } from "./media.js";

/** Where plain RTP goes. */
export interface RtpForwarderOptions {
  /** Track i goes to port + 2 i, its RTCP to port + 2 i + 1. */
  readonly target: Endpoint;
  readonly tracks: readonly MediaTrack[];
  /** The s= line of the description. */
  readonly name?: string;
  readonly datagrams?: DatagramsFactory;
}

/** A sink whose output any RTP player can read. */
export interface RtpForwarder extends MediaSink {
  /** The description to write beside it: what ffplay or ffmpeg opens. */
  readonly sdp: string;
}

/**
 * Sends plain RTP and RTCP to a player or encoder that knows no key management. What it answers is not looked at.
 * @throws (rejects) WatchwordError `node.sink-port` for a target whose ports do not fit, `node.name-not-found`, or the errors
 * of `createDatagramsFactory`
 */
export async function createRtpForwarder(options: RtpForwarderOptions): Promise<RtpForwarder> {
  const { target, tracks } = options;
  const last = target.port + 2 * tracks.length - 1;
  if (!Number.isInteger(target.port) || target.port < 1 || last > 65_535) {
    throw new WatchwordError(
      "node.sink-port",
      `rtp://${target.host}:${target.port}: ${tracks.length} tracks need ports up to ${last}`,
    );
  }
  const host = await resolveHost(target.host);
  const factory = options.datagrams ?? createDatagramsFactory();
  const socket = await factory.bind({ host: isIP(host) === 6 ? "::" : "0.0.0.0", port: 0 });
  return new Forwarder(socket, { host, port: target.port }, formatForwardSdp({ host, port: target.port }, tracks, options.name));
}

async function resolveHost(host: string): Promise<string> {
  if (isIP(host) !== 0) return host;
  try {
    return (await lookup(host)).address;
  } catch (error) {
    throw nodeError(error, `look up ${host}`);
  }
}

class Forwarder implements RtpForwarder {
  readonly sdp: string;
  readonly #socket: Datagrams;
  readonly #target: Endpoint;

  constructor(socket: Datagrams, target: Endpoint, sdp: string) {
    this.#socket = socket;
    this.#target = target;
    this.sdp = sdp;
  }

  rtp(track: number, packet: Uint8Array): void {
    this.#socket.send(packet, { host: this.#target.host, port: this.#target.port + 2 * track });
  }

  rtcp(track: number, packet: Uint8Array): void {
    this.#socket.send(packet, { host: this.#target.host, port: this.#target.port + 2 * track + 1 });
  }

  close(): Promise<void> {
    this.#socket.close();
    return Promise.resolve();
  }
}

/** The description (RFC 4566) of plain RTP that arrives at `target`, one m= line per track at every second port. */
function formatForwardSdp(target: Endpoint, tracks: readonly MediaTrack[], name = "watchword"): string {
  const address = `IN IP${isIP(target.host) === 6 ? 6 : 4} ${target.host}`;
  const lines = ["v=0", `o=- 0 0 ${address}`, `s=${name.replace(/[\r\n\0]/g, " ") || "-"}`, `c=${address}`, "t=0 0"];
  for (const [index, track] of tracks.entries()) {
    lines.push(`m=${track.media} ${target.port + 2 * index} RTP/AVP ${track.payloadType}`);
    lines.push(`a=rtpmap:${track.payloadType} ${track.rtpmap}`);
    if (track.fmtp !== undefined) lines.push(`a=fmtp:${track.payloadType} ${track.fmtp}`);
    lines.push("a=recvonly");
  }
  return `${lines.join("\r\n")}\r\n`;
}
