import { createSocket } from "node:dgram";
import { describe, expect, it, onTestFinished } from "vitest";
import { utf8 } from "../../../src/bytes/index.js";
import { createToneSource, type MediaSink, systemClock, systemTimers } from "../../../src/node/index.js";
import {
  type CallEnd,
  type IncomingCall,
  nodeSipSockets,
  type SipCall,
  type SipTransportOptions,
  type SipUserAgent,
  type SipUserAgentOptions,
  startSipUserAgent,
} from "../../../src/node/sip/index.js";
import { createCredentialSipKeying, createPskSipKeying, type PskSipKeyingOptions } from "../../../src/sip/index.js";
import { spoiled } from "../../sip/support.js";
import { makeSelfSigned } from "../self-signed.js";
import { type Loss, lossySockets } from "./support.js";

const PSK = utf8("a key that both parties were given");
const WAIT = { timeout: 15_000, interval: 10 };

interface Telephone {
  readonly agent: SipUserAgent;
  readonly rings: IncomingCall[];
  readonly taken: SipCall[];
  readonly ends: CallEnd[];
  readonly failures: unknown[];
  readonly packets: Uint8Array[];
  readonly sink: () => Promise<MediaSink>;
  readonly sent: string[];
}

interface TelephoneOptions {
  readonly transport?: Partial<SipTransportOptions>;
  readonly psk?: Uint8Array;
  readonly lose?: Loss;
  readonly keying?: Partial<PskSipKeyingOptions>;
  readonly onCall?: (call: IncomingCall) => void;
  readonly agent?: Partial<SipUserAgentOptions>;
}

async function startTelephone(name: string, options: TelephoneOptions = {}): Promise<Telephone> {
  const { psk = PSK, lose = () => false } = options;
  const [rings, taken, ends, failures, packets, sent]: [IncomingCall[], SipCall[], CallEnd[], unknown[], Uint8Array[], string[]] = [
    [],
    [],
    [],
    [],
    [],
    [],
  ];
  const sink = (): Promise<MediaSink> =>
    Promise.resolve({ rtp: (_, packet) => void packets.push(packet.slice()), rtcp() {}, close: () => Promise.resolve() });
  const agent = await startSipUserAgent({
    address: `sip:${name}@127.0.0.1:0`,
    transport: {
      transport: "udp",
      sockets: lossySockets(nodeSipSockets(options.transport?.tls, options.transport?.transport === "tls"), lose, sent),
      ...options.transport,
    },
    keying: (uri) =>
      createPskSipKeying({ uri, keys: { find: () => psk }, clock: systemClock, timers: systemTimers, ...options.keying }),
    onCall: (ringing) => {
      rings.push(ringing);
      if (options.onCall !== undefined) options.onCall(ringing);
      else {
        ringing.accept({ source: createToneSource(), sink }).then(
          (call) => {
            taken.push(call);
            void call.ended.then((end) => ends.push(end));
          },
          (error: unknown) => void failures.push(error),
        );
      }
    },
    ...options.agent,
  });
  onTestFinished(() => agent.close());
  return { agent, rings, taken, ends, failures, packets, sink, sent };
}

function place(from: Telephone, to: Telephone): Promise<SipCall> {
  return from.agent.call(to.agent.uri, { source: createToneSource(), sink: from.sink });
}

const certificate = makeSelfSigned();

describe("a telephone", () => {
  it.each([
    { transport: "udp" },
    { transport: "tcp" },
    { transport: "tls", tls: { ca: certificate.cert, credentials: certificate } },
  ] as const)("calls, talks, gets new keys, holds and hangs up over $transport", async (transport) => {
    const [alice, bob] = [await startTelephone("alice", { transport }), await startTelephone("bob", { transport })];
    const call = await place(alice, bob);
    await expect.poll(() => Math.min(alice.packets.length, bob.packets.length), WAIT).toBeGreaterThan(10);
    const [taken] = bob.taken as [SipCall];
    expect(taken).toMatchObject({ direction: "incoming", remote: alice.agent.uri.split(";")[0] });
    expect(call.keys).toMatchObject({ suite: "AES_CM_128_HMAC_SHA1_80", keyedBy: "psk" });
    const first = call.keys?.fingerprint;
    await call.rekey();
    await taken.rekey();
    expect([call.rekeys, taken.rekeys]).toEqual([2, 2]);
    expect(call.keys?.fingerprint).not.toBe(first);
    await expect.poll(() => taken.keys?.fingerprint, WAIT).toBe(call.keys?.fingerprint);
    await taken.hold();
    const heard = bob.packets.length;
    await taken.resume();
    await expect.poll(() => bob.packets.length, WAIT).toBeGreaterThan(heard + 5);
    expect(await taken.hangUp()).toEqual({ by: "local", proof: "verified" });
    expect(await call.ended).toEqual({ by: "remote", proof: "verified" });
    for (const { statistics } of [call, taken]) expect(statistics).toMatchObject([{ lost: 0, refused: 0 }]);
    await expect(call.rekey()).rejects.toMatchObject({ code: "node.sip-call" });
    expect(await call.hangUp()).toEqual({ by: "remote", proof: "verified" });
    expect([alice.agent.calls, bob.agent.calls]).toEqual([[], []]);
  });

  it("is refused by whoever has another key, with the reason", async () => {
    const [alice, bob] = [
      await startTelephone("alice", { psk: utf8("this is something else entirely") }),
      await startTelephone("bob"),
    ];
    await expect(place(alice, bob)).rejects.toMatchObject({
      code: "node.sip-status-488",
      message: expect.stringContaining("authentic"),
    });
    // The refusal says what it is about, so nothing is tried again without HELLO.
    expect(bob.failures.map((error) => (error as { code: string }).code)).toEqual(["mikey.authentication"]);
    expect(bob.packets).toEqual([]);
  });

  it("calls once more, and says so, where numbers that HELLO announced are refused", async () => {
    const keying = (macAlgs: readonly number[]) => (uri: string) =>
      createCredentialSipKeying({
        uri,
        credentials: { find: () => ({ psk: PSK }) },
        keyPolicy: { macAlgs },
        clock: systemClock,
        timers: systemTimers,
      });
    const retries: string[] = [];
    const alice = await startTelephone("alice", {
      agent: { keying: keying([2, 1]), onRetry: (target, { code }) => void retries.push(`${target} ${code}`) },
    });
    const bob = await startTelephone("bob", { agent: { keying: keying([1]) } });
    const call = await place(alice, bob);
    expect(retries).toEqual([`${bob.agent.uri} node.sip-status-488`]);
    expect(bob.failures.map((error) => (error as { code: string }).code)).toEqual(["mikey.mac-algorithm"]);
    expect(call.keys).toMatchObject({ keyedBy: "psk" });
    await call.hangUp();
  });

  it.each(["rekey", "hold"] as const)(
    "is given up, with a proof, where the other party refuses the new keys of a %s",
    async (step) => {
      // Somebody on the way damages what re-INVITEs carry.
      const lose = (message: string): boolean | string => /^INVITE [\s\S]*CSeq: 2 /.test(message) && spoiled(message);
      const [alice, bob] = [await startTelephone("alice", { lose }), await startTelephone("bob")];
      const call = await place(alice, bob);
      await expect(call[step]()).rejects.toMatchObject({ code: "node.sip-status-488" });
      expect(await call.ended).toMatchObject({ by: "failure", proof: "verified", error: { code: "node.sip-status-488" } });
      const error = { code: "mikey.authentication" };
      await expect.poll(() => bob.ends, WAIT).toMatchObject([{ by: "remote", proof: "verified", error }]);
      expect(alice.sent.filter((message) => message.startsWith("BYE ")).length).toBe(1);
      expect(alice.agent.calls).toEqual([]);
    },
  );

  it("goes on under its old keys where they are to be kept", async () => {
    const lose = (message: string): boolean | string => /^INVITE [\s\S]*CSeq: 2 /.test(message) && spoiled(message);
    const [alice, bob] = [await startTelephone("alice", { lose, keying: { refusedRekey: "keep" } }), await startTelephone("bob")];
    const call = await place(alice, bob);
    const before = call.keys?.fingerprint;
    await expect(call.rekey()).rejects.toMatchObject({ code: "node.sip-status-488" });
    expect(call.keys?.fingerprint).toBe(before);
    const heard = bob.packets.length;
    await expect.poll(() => bob.packets.length, WAIT).toBeGreaterThan(heard + 5);
    await call.rekey();
    expect(call.rekeys).toBe(1);
    expect(await call.hangUp()).toEqual({ by: "local", proof: "verified" });
    await expect.poll(() => bob.ends, WAIT).toEqual([{ by: "remote", proof: "verified" }]);
  });

  it("offers its keys as a capability where that is asked for", async () => {
    const [alice, bob] = [await startTelephone("alice", { keying: { offerAs: "capability" } }), await startTelephone("bob")];
    const call = await place(alice, bob);
    await expect.poll(() => Math.min(alice.packets.length, bob.packets.length), WAIT).toBeGreaterThan(5);
    expect(alice.sent.find((message) => message.startsWith("INVITE "))).toMatch(/m=audio \d+ RTP\/AVP [\s\S]*a=pcfg:1 t=1 a=1/);
    expect(bob.sent.find((message) => /^SIP\/2\.0 200 /.test(message))).toMatch(/m=audio \d+ RTP\/SAVP [\s\S]*a=acfg:1 t=1 a=1/);
    await call.rekey();
    expect(await call.hangUp()).toEqual({ by: "local", proof: "verified" });
  });

  it("is told that nobody is there, that they are busy, and who has given up", async () => {
    const onCall = (call: IncomingCall): void => void call.reject(486);
    const [alice, bob] = [await startTelephone("alice"), await startTelephone("bob", { onCall })];
    await expect(place(alice, bob)).rejects.toMatchObject({ code: "node.sip-status-486" });
    await expect(alice.agent.call(bob.agent.uri.replace("bob", "carol"))).rejects.toMatchObject({ code: "node.sip-status-404" });
    await expect(alice.agent.call("mailto:bob@example.org")).rejects.toMatchObject({ code: "node.sip-address" });
    const carol = await startTelephone("carol", { onCall: () => {} });
    await expect(alice.agent.call(carol.agent.uri, { ringTime: 300 })).rejects.toMatchObject({ code: "node.sip-call" });
    // The one that rang can no longer be taken.
    await expect(carol.rings[0]?.accept({})).rejects.toMatchObject({ code: "node.sip-call" });
    expect(alice.agent.calls).toEqual([]);
  });

  it("lets the other party make the offer", async () => {
    const [alice, bob] = [await startTelephone("alice"), await startTelephone("bob")];
    const call = await alice.agent.call(bob.agent.uri, { source: createToneSource(), sink: alice.sink, lateOffer: true });
    await expect.poll(() => Math.min(alice.packets.length, bob.packets.length), WAIT).toBeGreaterThan(5);
    expect(await call.hangUp()).toEqual({ by: "local", proof: "verified" });
  });

  it("replaces keys from both sides at once", async () => {
    const [alice, bob] = [await startTelephone("alice"), await startTelephone("bob")];
    const call = await place(alice, bob);
    await expect.poll(() => bob.taken.length, WAIT).toBe(1);
    await Promise.all([call.rekey(), bob.taken[0]?.rekey()]);
    expect(call.rekeys).toBe(2);
    expect(call.keys?.fingerprint).toBe(bob.taken[0]?.keys?.fingerprint);
    expect(await call.hangUp()).toEqual({ by: "local", proof: "verified" });
  });

  it("proves the end even where BYE and its answer get lost", async () => {
    let lost = 0;
    const lose = (message: string): boolean => /^(?:BYE |SIP\/2\.0 200 [\s\S]*CSeq: \d+ BYE)/.test(message) && lost++ < 1;
    const [alice, bob] = [await startTelephone("alice", { lose }), await startTelephone("bob", { lose })];
    const call = await place(alice, bob);
    expect(await call.hangUp()).toEqual({ by: "local", proof: "verified" });
    await expect.poll(() => bob.ends, WAIT).toEqual([{ by: "remote", proof: "verified" }]);
    expect(lost).toBeGreaterThan(1);
  });

  it("hangs every call up when it closes, and leaves no socket", async () => {
    const sockets = (): number => process.getActiveResourcesInfo().filter((name) => /UDPWrap|TCP/i.test(name)).length;
    await expect.poll(sockets, WAIT).toBe(0);
    const [alice, bob] = [await startTelephone("alice"), await startTelephone("bob")];
    await Promise.all([place(alice, bob), place(alice, bob)]);
    await alice.agent.close();
    await expect
      .poll(() => bob.ends, WAIT)
      .toMatchObject([
        { by: "remote", proof: "verified" },
        { by: "remote", proof: "verified" },
      ]);
    await bob.agent.close();
    await bob.agent.close();
    await expect.poll(sockets, WAIT).toBe(0);
  });

  it("does not wait for ever for a party that has gone", async () => {
    let gone = false;
    const [alice, bob] = [await startTelephone("alice", { lose: () => gone }), await startTelephone("bob", { lose: () => gone })];
    const call = await place(alice, bob);
    gone = true;
    await Promise.all([alice.agent.close(), bob.agent.close()]);
    expect(await call.ended).toEqual({ by: "local", proof: "absent" });
  });

  it("hangs up in the middle of a rekey, and nothing is sent any more", async () => {
    const [alice, bob] = [await startTelephone("alice"), await startTelephone("bob")];
    const call = await place(alice, bob);
    await call.rekey();
    const rekeying = call.rekey().catch((error: unknown) => error);
    await expect
      .poll(() => [...alice.sent, ...bob.sent].filter((message) => /^INVITE [\s\S]*CSeq: 3 INVITE/.test(message)).length, {
        interval: 1,
      })
      .toBeGreaterThan(0);
    expect(await call.hangUp()).toMatchObject({ by: "local" });
    await rekeying;
    await expect.poll(() => bob.ends.length, WAIT).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 600));
    const before = bob.sent.length;
    await new Promise((resolve) => setTimeout(resolve, 2000));
    expect(bob.sent.length).toBe(before);
  });

  it("takes no media from anybody else", async () => {
    const [alice, bob] = [await startTelephone("alice"), await startTelephone("bob")];
    const call = await place(alice, bob);
    await expect.poll(() => alice.packets.length, WAIT).toBeGreaterThan(2);
    const port = Number(
      /m=audio (\d+)/.exec([...alice.sent, ...bob.sent].find((message) => message.startsWith("INVITE")) ?? "")?.[1],
    );
    const mallory = createSocket("udp4");
    onTestFinished(() => void mallory.close());
    const forged = Buffer.alloc(172, 0x55);
    forged.set([0x80, 0, 0, 1]);
    for (let i = 0; i < 20; i++) mallory.send(forged, port, "127.0.0.1");
    await expect.poll(() => call.statistics[0]?.refused, WAIT).toBe(20);
    expect(alice.packets.every((packet) => packet[12] !== 0x55 || packet[13] !== 0x55 || packet[14] !== 0x55)).toBe(true);
    await call.hangUp();
  });
});
