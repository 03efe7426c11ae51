import { afterEach, describe, expect, it } from "vitest";
import { utf8 } from "../../src/bytes/index.js";
import { decodeRekey, nestedMessages } from "../../src/gsa/index.js";
import type { Membership } from "../../src/member/membership.js";
import { decodeMessage, payloadsOf } from "../../src/mikey/index.js";
import { createRig, definition, listen, type Rig, type RigMember, rtp } from "./rig.js";

let rig: Rig;
afterEach(() => rig.close());

const first = ({ member }: RigMember) => member.memberships[0] ?? expect.unreachable();
const stream = (member: RigMember) => first(member).streams[0] ?? expect.unreachable();

/** The GSA messages of the newest registration. */
function gsasOf({ carrier }: RigMember): Uint8Array[] {
  return nestedMessages(payloadsOf(decodeMessage(carrier.sent.responses.at(-1) ?? new Uint8Array(0)), "EXT"));
}

/** Cuts a member off from messages of a kind. @returns how to end it */
function withhold({ member }: RigMember, kind: "rekey" | "all"): () => void {
  const receive = member.receiveControl.bind(member);
  member.receiveControl = (datagram) => {
    if (kind === "rekey" && decodeRekey(datagram).kind !== "rekey") receive(datagram);
  };
  return () => {
    member.receiveControl = receive;
  };
}

const unreachable = (): Promise<never> => Promise.reject(new Error("unreachable"));

/** Admits a listener by a registration SA from a file. */
async function provision({ gcks }: Rig) {
  const provisioned = {
    id: new Uint8Array(16).fill(7),
    secret: Uint8Array.from({ length: 32 }, (_, i) => 3 * i),
    gcks: "sip:gcks@example.org",
    member: "sip:listener1@example.org",
    groups: [utf8("blue")],
  };
  const sent: Uint8Array[] = [];
  const channel = { deliver: async (message: Uint8Array) => void sent.push(message), close: () => undefined };
  await gcks.provision(provisioned, { send: false, receive: true }, channel, 1);
  const [gsa] = sent;
  if (gsa === undefined) throw new Error("no GSA");
  return { provisioned, gsa };
}

describe("a member from whom rekey messages are held back", () => {
  it("is not kept in the past by its GSA and heartbeats of then", async () => {
    rig = await createRig();
    const listener = await rig.join("listener1");
    await rig.settle(12_000);
    const receive = listener.member.receiveControl.bind(listener.member);
    const recorded = [...gsasOf(listener), ...rig.control.filter((octets) => decodeRekey(octets).kind === "heartbeat")];
    expect(recorded.length).toBeGreaterThan(1);
    withhold(listener, "all");
    listener.carrier.register = unreachable;
    await rig.gcks.rekey("blue");
    for (let seconds = 0; seconds < 60; seconds += 5) {
      for (const octets of recorded) receive(octets);
      await rig.settle(5000);
    }
    expect(first(listener).state).toBe("missing");
  });

  it("does not send to who was expelled meanwhile, although heartbeats come", async () => {
    rig = await createRig();
    const speaker = await rig.join("speaker1");
    const bad = await rig.join("listener1");
    await rig.settle(5000);
    const giveBack = withhold(speaker, "rekey");
    const { register } = speaker.carrier;
    speaker.carrier.register = unreachable;
    await rig.gcks.expel("blue", "sip:listener1@example.org");
    await rig.settle(40_000);
    expect(speaker.speak(1)).toBe(false);
    expect(bad.heard).toEqual([]);
    speaker.carrier.register = register;
    giveBack();
    await rig.settle(400_000);
    expect(first(speaker).state).toBe("in-step");
    expect(speaker.speak(2)).toBe(true);
  });

  it("is not in step without the data key that one of them brought, whatever heartbeats tell", async () => {
    rig = await createRig({ definitions: [definition({ rekeyOnJoin: "none" }, { algorithm: "none", heartbeat: 1 })] });
    const speaker = await rig.join("speaker1");
    const listener = await rig.join("listener1");
    await rig.join("listener2");
    await rig.settle(5000);
    const giveBack = withhold(listener, "rekey");
    await rig.gcks.expel("blue", "sip:listener2@example.org");
    await rig.settle(100);
    giveBack();
    // With the next message the one before is not repeated any more; it brings the KEK, and no data key.
    await rig.join("listener3");
    await rig.settle(20_000);
    expect(first(listener)).toMatchObject({ state: "in-step", sequence: rig.gcks.groups[0]?.sequence });
    speaker.speak(1);
    await rig.settle(100);
    expect(listener.heard).toEqual([1]);
  });

  it("goes on sending where it lost nothing but its dialog", async () => {
    rig = await createRig();
    const speaker = await rig.join("speaker1");
    await rig.settle(5000);
    speaker.carrier.register = unreachable;
    speaker.carrier.onLost?.();
    await rig.settle(120_000);
    expect(speaker.speak(1)).toBe(true);
  });
});

describe("what anybody can send", () => {
  it("makes a member register again once a minute at most: packets under a key of the future", async () => {
    rig = await createRig();
    const speaker = await rig.join("speaker1");
    const listener = await rig.join("listener1");
    await rig.settle(5000);
    const forged = stream(speaker).protect(rtp(1))?.slice() ?? new Uint8Array(0);
    forged.fill(0xff, forged.length - 4);
    for (let seconds = 0; seconds < 180; seconds++) {
      stream(listener).receive(forged);
      await rig.settle(1000);
    }
    expect(listener.carrier.sent.iMessages.length).toBeLessThanOrEqual(1 + 3);
  });

  it("does not silence a sender: its own packets of long ago are no collision, those of somebody else are", async () => {
    rig = await createRig();
    const speaker = await rig.join("speaker1");
    await rig.settle(5000);
    const old = stream(speaker).protect(rtp(0))?.slice() ?? new Uint8Array(0);
    const later = [30_000, 33_000, 60_000, 70_000].map((number) => stream(speaker).protect(rtp(number))?.slice());
    const { ssrc } = stream(speaker);
    for (const packet of [old, ...later]) if (packet !== undefined) stream(speaker).receive(packet);
    await rig.settle(10_000);
    expect(stream(speaker).ssrc).toBe(ssrc);
    expect(speaker.speak(70_001)).toBe(true);
    // Another one who has the keys sends under this SSRC, ahead of it.
    const thief = await rig.join("speaker2");
    await rig.settle(10_000);
    const { media } = first(thief) as unknown as Membership;
    media.configure(thief.carrier.policies?.data ?? [], { send: true, receive: true }, new Map([[1, ssrc ?? 0]]), 1);
    const forged = [30_000, 60_000, 71_000].map((number) =>
      stream(thief)
        .protect(rtp(number & 0xffff))
        ?.slice(),
    );
    for (const packet of forged) if (packet !== undefined) stream(speaker).receive(packet);
    expect(speaker.speak(70_002)).toBe(false);
    await rig.settle(10_000);
    expect(stream(speaker).ssrc).not.toBe(ssrc);
    expect(speaker.speak(70_003)).toBe(true);
  });
});

describe("a member that stays while others come and go", () => {
  it("hears new senders, however many there were before, and installs a GSA that tells of more", async () => {
    rig = await createRig({ definitions: [definition({}, { heartbeat: 0 })] });
    const speaker = await rig.join("speaker1");
    const listener = await rig.join("listener1");
    await rig.settle(5000);
    const { media } = first(speaker) as unknown as Membership;
    const { media: ears } = first(listener) as unknown as Membership;
    const allowed = media.keysToSend(1, stream(speaker).ssrc ?? 0, false);
    if (allowed === undefined) throw new Error("no key");
    // One sender after the other, each under an SSRC of its own, and each goes.
    const senders = [0, 1].map(() => media.createSender(allowed.dataSa, allowed.keys, 0));
    for (let ssrc = 1; ssrc <= 1100; ssrc++) {
      const packet = new Uint8Array(100);
      const length = senders[ssrc % 2]?.protect(rtp(1, ssrc), packet);
      stream(listener).receive(packet.subarray(0, length));
      ears.synchronise([{ ssrc, gone: true }]);
    }
    expect(stream(listener).statistics).toMatchObject({ received: 1100, refused: 0 });
    listener.heard.length = 0;
    speaker.speak(5);
    await rig.settle(100);
    expect(listener.heard).toEqual([5]);
    // More than it has room for: they are found when they are heard.
    const entries = Array.from({ length: 20_000 }, (_, i) => ({ ssrc: 10_000 + i, running: { roc: 1, seq: 1 }, gone: false }));
    expect(() => ears.synchronise(entries)).not.toThrow();
    speaker.speak(6);
    await rig.settle(100);
    expect(listener.heard).toEqual([5, 6]);
    expect(ears.remembered).toBeLessThanOrEqual(4096);
  });

  it("keeps no place for every SSRC that an insider makes up", async () => {
    rig = await createRig({ definitions: [definition({ data: [{ number: 1, arrangement: "per-ssrc" }] }, { heartbeat: 0 })] });
    const speaker = await rig.join("speaker1");
    const listener = await rig.join("listener1");
    await rig.settle(5000);
    const { media } = first(speaker) as unknown as Membership;
    const { media: ears } = first(listener) as unknown as Membership;
    const allowed = media.keysToSend(1, stream(speaker).ssrc ?? 0, false) ?? expect.unreachable();
    const packet = new Uint8Array(100);
    for (let ssrc = 1; ssrc <= 5300; ssrc++) {
      const sender = media.createSender(allowed.dataSa, allowed.keys, ssrc);
      stream(listener).receive(packet.subarray(0, sender.protect(rtp(1, ssrc), packet)));
      sender.close();
    }
    expect(stream(listener).statistics.received).toBe(5300);
    expect(ears.remembered).toBeLessThanOrEqual(4096);
    speaker.speak(5);
    await rig.settle(100);
    expect(listener.heard.at(-1)).toBe(5);
  }, 60_000);
});

describe("a member that is being admitted", () => {
  it("loses no message that overtakes its GSA", async () => {
    const rekey = { retransmissions: 0, heartbeat: 0 };
    rig = await createRig({ definitions: [definition({}, rekey)] });
    const listener = await rig.join("listener1", { idle: true });
    const { register } = listener.carrier;
    const receive = listener.member.receiveControl.bind(listener.member);
    withhold(listener, "all");
    listener.carrier.register = async (iMessage) => {
      const response = await register(iMessage);
      await rig.gcks.rekey("blue");
      for (const junk of [Uint8Array.of(1), rig.control.at(-1)?.subarray(0, 40), rig.control.at(-1)]) receive(junk as Uint8Array);
      return response;
    };
    const joining = listener.member.join();
    await rig.settle(50);
    await joining;
    await rig.settle(0);
    expect(first(listener)).toMatchObject({ state: "in-step", sequence: rig.gcks.groups[0]?.sequence });
  });

  it("installs nothing where it was closed before the answer came", async () => {
    rig = await createRig();
    const listener = await rig.join("listener1", { idle: true });
    const { register } = listener.carrier;
    listener.carrier.register = async (iMessage) => {
      const response = await register(iMessage);
      listener.member.close();
      return response;
    };
    const joining = listener.member.join();
    joining.catch(() => undefined);
    await rig.settle(50);
    await expect(joining).rejects.toMatchObject({ code: "member.closed" });
    expect([first(listener).state, first(listener).sequence]).toEqual(["idle", undefined]);
    await expect(listener.member.join()).rejects.toMatchObject({ code: "member.closed" });
  });

  it("installs no GSA where it is closed while that is opened", async () => {
    rig = await createRig();
    const { provisioned, gsa } = await provision(rig);
    let opened = 0;
    for (let turns = 0; turns < 40; turns++) {
      const listener = await rig.join("listener1", { idle: true });
      listener.member.provision(provisioned);
      listener.member.receiveControl(gsa);
      for (let turn = 0; turn < turns; turn++) await Promise.resolve();
      if (first(listener).state === "in-step") opened++;
      listener.member.close();
      await rig.settle(0);
      expect(first(listener).state).toBe("idle");
    }
    expect(opened).toBeGreaterThan(0);
  });

  it("takes no GSA of long ago under a registration SA from a file", async () => {
    rig = await createRig({ definitions: [definition({ rekeyOnJoin: "none", rekeyOnLeave: "none" }, { heartbeat: 0 })] });
    const { provisioned, gsa } = await provision(rig);
    const prompt = await rig.join("listener1", { idle: true });
    prompt.member.provision(provisioned);
    prompt.member.receiveControl(gsa);
    await rig.settle(1000);
    expect(first(prompt).state).toBe("in-step");
    await rig.settle(600_000);
    // Started again, it knows nothing of what it sent under these keys.
    const restarted = await rig.join("listener1", { idle: true });
    restarted.member.provision(provisioned);
    restarted.member.receiveControl(gsa);
    await rig.settle(1000);
    expect(first(restarted).state).toBe("joining");
  });
});

describe("a member of two groups", () => {
  it("keeps their policies apart", async () => {
    rig = await createRig({
      definitions: [
        definition({ suite: "AEAD_AES_256_GCM" }),
        definition({ name: "red", suite: "AES_CM_128_HMAC_SHA1_80" }, { address: "239.0.0.9:2269" }),
      ],
    });
    const groups = ["blue", "red"];
    const speaker = await rig.join("speaker1", { groups });
    const listener = await rig.join("listener1", { groups });
    await rig.settle(5000);
    for (const [index, membership] of listener.member.memberships.entries()) {
      const heard: number[] = [];
      const [to] = membership.streams;
      const [from] = speaker.member.memberships[index]?.streams ?? [];
      if (to === undefined || from === undefined) throw new Error("no stream");
      to.onRtp = (packet) => heard.push(new DataView(packet.buffer, packet.byteOffset).getUint32(12));
      to.receive(from.protect(rtp(7)) ?? new Uint8Array(0));
      expect(heard).toEqual([7]);
    }
    listen(listener);
  });
});

describe("a key server whose members have long names", () => {
  it("admits others, although it tells who sends", async () => {
    rig = await createRig({ definitions: [definition({ visible: ["senders"] })] });
    const name = `speaker${"x".repeat(300)}`;
    const speaker = await rig.join(name);
    await rig.settle(1000);
    speaker.speak(1);
    await rig.settle(1000);
    const listener = await rig.join("listener1");
    expect(first(listener).state).toBe("in-step");
  });
});
