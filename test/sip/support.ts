import { expect } from "vitest";
import { utf8 } from "../../src/bytes/index.js";
import { createSimulatedNetwork } from "../../src/io/index.js";
import { type DecodedMessage, decodeMessage, ExtensionType, encodeErrorMessage } from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { readKeyMgmt } from "../../src/sdp/index.js";
import {
  createPskSipKeying,
  type DialogFacts,
  type PskSipKeyingOptions,
  type SipDialog,
  type SipKeying,
  SipRefusal,
} from "../../src/sip/index.js";

export const PSK = utf8("0123456789abcdef0123456789abcdef");
export const ALICE = "sip:alice@example.org";
export const BOB = "sip:bob@example.org";
export const CALL = { callId: "call-1@host", callerTag: "alice-tag" };

export interface SdpLine {
  readonly kind?: string;
  readonly port?: number;
  readonly profile?: string;
  readonly attributes?: readonly string[];
}

/** A description as a plain RTP stack writes it. */
export function sdpOf(lines: readonly SdpLine[] = [{}], session: readonly string[] = []): string {
  const media = lines.flatMap(({ kind = "audio", port = 4000, profile = "RTP/AVP", attributes = ["a=rtpmap:0 PCMU/8000"] }) => [
    `m=${kind} ${port} ${profile} 0`,
    ...attributes,
  ]);
  return ["v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0", ...session, ...media, ""].join("\r\n");
}

export const AUDIO_VIDEO = sdpOf([{}, { kind: "video", port: 4002 }]);

export function rtp(ssrc: number, sequence: number): Uint8Array {
  const packet = new Uint8Array(12 + 20).fill(sequence & 0xff, 12);
  const view = new DataView(packet.buffer);
  view.setUint16(0, 0x8000);
  view.setUint16(2, sequence & 0xffff);
  view.setUint32(8, ssrc);
  return packet;
}

/** A receiver report. */
export function rtcp(ssrc: number): Uint8Array {
  const packet = new Uint8Array(8);
  const view = new DataView(packet.buffer);
  view.setUint32(0, 0x80c90001);
  view.setUint32(4, ssrc);
  return packet;
}

export interface Scene {
  readonly network: ReturnType<typeof createSimulatedNetwork>;
  readonly alice: SipKeying;
  readonly bob: SipKeying;
}

export function scene(options: Partial<PskSipKeyingOptions> = {}, bobs: Partial<PskSipKeyingOptions> = {}): Scene {
  const network = createSimulatedNetwork();
  const common = { clock: network.clock, timers: network.timers, crypto: nodeCrypto };
  return {
    network,
    alice: createPskSipKeying({ ...common, uri: ALICE, keys: [[BOB, PSK]], ...options }),
    bob: createPskSipKeying({ ...common, uri: BOB, keys: [[ALICE, PSK]], ...options, ...bobs }),
  };
}

export interface Call {
  readonly caller: SipDialog;
  readonly callee: SipDialog;
}

export function dialogs({ alice, bob }: Scene, facts: Partial<DialogFacts> = {}): Call {
  return { caller: alice.dialog({ ...CALL, remote: BOB, ...facts }), callee: bob.dialog({ ...CALL, remote: ALICE, ...facts }) };
}

/** One offer/answer exchange; the texts as they were on the wire. */
export async function exchange(
  from: SipDialog,
  to: SipDialog,
  local = sdpOf(),
  answering = local,
): Promise<{ offer: string; answer: string }> {
  const offer = await from.createOffer(local);
  await to.acceptOffer(offer);
  const answer = await to.createAnswer(answering);
  await from.acceptAnswer(answer);
  return { offer, answer };
}

/** One packet over one m= line: what came out at the other end, if anything. */
export function carry(from: SipDialog, to: SipDialog, packet: Uint8Array, line = 0): Uint8Array | undefined {
  let got: Uint8Array | undefined;
  const stream = to.streams[line];
  if (stream === undefined) throw new Error("no such m= line");
  stream.onRtp = (opened) => {
    got = opened.slice();
  };
  const sent = from.streams[line]?.protect(packet);
  if (sent !== undefined) stream.receive(sent);
  return got;
}

/** Line of a description that begins so. */
export function lineOf(sdp: string, start: string): string | undefined {
  return sdp.split("\r\n").find((line) => line.startsWith(start));
}

/** One packet each way over one m= line. */
export function bothWays({ caller, callee }: Call, sequence: number, line = 0): void {
  const down = rtp(1000 + line, sequence);
  const up = rtp(2000 + line, sequence);
  expect(carry(caller, callee, down, line)).toEqual(down);
  expect(carry(callee, caller, up, line)).toEqual(up);
}

/** What a step is refused with. */
export async function refusal(step: Promise<unknown>): Promise<SipRefusal> {
  const error = await step.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(SipRefusal);
  return error as SipRefusal;
}

/** A description whose first key message was damaged on its way. */
export function spoiled(sdp: string): string {
  return sdp.replace(/(mikey .{60})(.)/, (_match, head: string, character: string) => head + (character === "A" ? "B" : "A"));
}

/** The first key message of a description. */
export function messageIn(sdp: string): DecodedMessage {
  const data = readKeyMgmt(sdp).attributes[0]?.data;
  if (data === undefined) throw new Error("no key message");
  return decodeMessage(data);
}

/** How many HELLO extensions it has. */
export function hellosIn(sdp: string): number {
  return messageIn(sdp).payloads.filter((payload) => payload.kind === "EXT" && payload.extType === ExtensionType.HELLO).length;
}

/** An unauthenticated MIKEY error that answers an offer. */
export function errorTo(offer: string, errorNo: number): Uint8Array {
  const { header, payloads } = messageIn(offer);
  const t = payloads.find(({ kind }) => kind === "T");
  if (t?.kind !== "T") throw new Error("no T");
  return encodeErrorMessage(nodeCrypto, header, { tsType: t.tsType, value: t.value }, errorNo);
}
