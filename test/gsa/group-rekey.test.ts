import { describe, expect, it } from "vitest";
import { formatHex, wipe } from "../../src/bytes/index.js";
import { type CryptoProvider, nobleCrypto } from "../../src/crypto/index.js";
import { createKeyPath, createKeyTree, type KeyTree } from "../../src/gkma/index.js";
import {
  createRekeyReceiver,
  type DataKey,
  type GroupPolicies,
  issueCredential,
  type ReceiveRekeyRequest,
  type RekeyContent,
  type RekeyOutcome,
  type RekeyPolicy,
  type RekeyReceiver,
  sealEnd,
  sealHeartbeat,
  sealRekey,
} from "../../src/gsa/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { constants, dataPolicies, GCKS, groupPolicy, NOW, octets, rekeyPolicy } from "./group-fixture.js";

const ONE_SA = [{ ...(dataPolicies[0] as (typeof dataPolicies)[number]), mkis: [] }];
const seed = (version: number): Uint8Array => nodeCrypto.hash("sha256", Uint8Array.of(version >> 8, version & 0xff));
const tek = (mki: number): DataKey => ({
  dataSa: 1,
  mki,
  key: seed(1000 + mki).slice(0, 16),
  salt: seed(2000 + mki).slice(0, 14),
});

interface GroupOptions {
  readonly crypto?: CryptoProvider;
  readonly rekey?: Partial<RekeyPolicy>;
  readonly policies?: Partial<GroupPolicies>;
  readonly members?: number;
}

/** A key server's tree, and members who follow it. */
function createGroup({ crypto = nodeCrypto, rekey: changed = {}, policies = {}, members = 5 }: GroupOptions = {}) {
  const unsigned = changed.signature === "none";
  const { verificationKey, ...signed } = { ...rekeyPolicy, ...changed };
  const rekey: RekeyPolicy = unsigned ? signed : { ...signed, verificationKey: verificationKey as Uint8Array };
  const signer = crypto.importPrivateKey(octets("signingPkcs8"));
  const { algorithm, degree, keyLength } = rekey;
  const tree = createKeyTree({ crypto, algorithm, ...(degree === 0 ? {} : { degree }), keyLength });
  const first = tree.prepareRekey({ join: members }, { version: 1, seed: seed(1) });
  first.commit();
  const base = (): Pick<RekeyContent, "constants" | "rekey" | "kek"> & { signer?: typeof signer } => ({
    constants,
    rekey,
    kek: { spi: tree.version, key: tree.groupKey() },
    ...(unsigned ? {} : { signer }),
  });
  const join = (leaf: number, sequence: number, receivedAtMs = 0): RekeyReceiver =>
    createRekeyReceiver({
      crypto,
      gcks: GCKS,
      constants,
      policies: { group: groupPolicy, rekey, data: ONE_SA, ...policies },
      keyPath: createKeyPath(crypto, tree.download(leaf)),
      sequence,
      time: NOW,
      receivedAtMs,
      minimum: { signed: !unsigned },
    });
  /** Seals a change of the tree and takes it. */
  const change = async (
    sequence: number,
    step: Parameters<KeyTree["prepareRekey"]>[0],
    dataKeys: readonly DataKey[] = [tek(sequence)],
    more: Partial<RekeyContent> = {},
  ): Promise<Uint8Array[]> => {
    const prepared = tree.prepareRekey(step, { version: sequence, seed: seed(sequence) });
    const content = { ...base(), sequence, change: { prepared, immediate: false, lifetime: 3600 }, dataKeys, ...more };
    const packets = await sealRekey(crypto, content);
    for (let i = 0; i < prepared.moved.length; i += 2) {
      const at = leaves.indexOf(prepared.moved[i] as number);
      if (at >= 0) leaves[at] = prepared.moved[i + 1] as number;
    }
    prepared.commit();
    return packets;
  };
  const leaves = [...first.joined];
  return { crypto, tree, rekey, signer, base, join, change, leaves };
}

let tokens = 0;
const request: ReceiveRekeyRequest = { nowMs: 1000, wallClockMs: 0, takeToken: () => tokens-- > 0 };

async function receiveAll(member: RekeyReceiver, packets: readonly Uint8Array[]): Promise<RekeyOutcome["kind"][]> {
  const kinds: RekeyOutcome["kind"][] = [];
  for (const packet of packets) kinds.push((await member.receive(packet, request)).kind);
  return kinds;
}

/** What a member concludes, with its new data keys as text. */
async function installed(member: RekeyReceiver, packet: Uint8Array) {
  const outcome = await member.receive(packet, request);
  if (outcome.kind !== "installed") throw new Error(outcome.kind === "discarded" ? outcome.reason : outcome.kind);
  return outcome;
}

const SHAPES: readonly Partial<RekeyPolicy>[] = [
  { algorithm: "none", degree: 0 },
  { algorithm: "lkh", degree: 2 },
  { algorithm: "lkh", degree: 4, keyLength: 32 },
  { algorithm: "lkh+", degree: 3 },
  { algorithm: "ofc", degree: 2 },
  { algorithm: "ofc", degree: 2, keyLength: 32, signature: "none", macLength: 32 },
];

describe.each([nobleCrypto, nodeCrypto])("rekey messages, $name", (crypto) => {
  it.each(SHAPES)("bring joins and leaves to everybody but the leaver: %o", async (rekey) => {
    const group = createGroup({ crypto, rekey });
    const members = group.leaves.map((leaf) => group.join(leaf, 1));
    const [leaver, ...others] = members as [RekeyReceiver, ...RekeyReceiver[]];
    const [packet, ...more] = await group.change(2, { join: 1 });
    expect(more).toEqual([]);
    for (const member of members) {
      const outcome = await installed(member, packet as Uint8Array);
      expect(outcome).toMatchObject({ sequence: 2, dataKeys: [tek(2)], immediate: false, lifetime: 3600, gap: false });
      expect(outcome.kek).toEqual({ spi: 2, key: group.tree.groupKey() });
      expect(member.kekSpi).toBe(2);
    }
    const [leave] = await group.change(3, { leave: [group.leaves[0] as number] });
    for (const member of others) expect((await installed(member, leave as Uint8Array)).dataKeys).toEqual([tek(3)]);
    const outcome = await leaver.receive(leave as Uint8Array, request);
    expect(outcome.kind).toBe("lost");
    expect(leaver.kekSpi).toBe(2);
  });
});

describe("one signed leave", () => {
  const streams = [{ ssrc: 0xcafebabe, gone: true }];

  it("has at most 800 octets in one packet among a million members (docs/protocol.md §16.7)", async () => {
    const group = createGroup();
    // What a binary chain of 2^20 leaves has to tell: a child id and a wrapped key on each level.
    const part = { version: 2, previous: 1, largestId: 2 ** 21 - 2, first: 2 ** 20 - 1, last: 2 ** 21 - 2 };
    const prepared = {
      version: 2,
      previous: 1,
      groupKey: seed(2).slice(0, 16),
      *parts() {
        yield { ...part, edges: new Uint8Array(20 * 28), refreshed: new Uint8Array(0) };
      },
    };
    const content = { ...group.base(), sequence: 2, change: { prepared, immediate: true, lifetime: 3600 }, dataKeys: [tek(2)] };
    expect((await sealRekey(nodeCrypto, content)).map(({ length }) => length)).toEqual([778]);
    expect((await sealRekey(nodeCrypto, { ...content, streams })).map(({ length }) => length)).toEqual([788]);
  });

  it("is as long as its edges say, and good for near and far", async () => {
    const group = createGroup({ members: 2 ** 10 });
    const near = group.join(group.leaves[301] as number, 1);
    const far = group.join(group.leaves[0] as number, 1);
    const packets = await group.change(2, { leave: [group.leaves[300] as number] }, [tek(2)], { streams });
    expect(packets.map(({ length }) => length)).toEqual([788 - 10 * 28]);
    for (const member of [near, far])
      expect(await installed(member, packets[0] as Uint8Array)).toMatchObject({ dataKeys: [tek(2)], sync: streams });
  });
});

describe("a batch", () => {
  it("comes in packets of at most 1200 octets, and each member needs one of them", async () => {
    const group = createGroup({ members: 500 });
    const members = group.leaves.map((leaf) => ({ leaf, member: group.join(leaf, 1) }));
    const gone = group.leaves.filter((_, index) => index % 7 === 3);
    const packets = await group.change(2, { leave: gone });
    expect(packets.length).toBeGreaterThan(5);
    expect(Math.max(...packets.map((packet) => packet.length))).toBeLessThanOrEqual(1200);
    for (const { leaf, member } of members.filter((_, index) => index % 11 === 0)) {
      const kinds = await receiveAll(member, packets);
      if (gone.includes(leaf)) {
        expect(kinds).not.toContain("installed");
      } else {
        const at = kinds.indexOf("installed");
        expect(kinds.slice(0, at).every((kind) => kind === "elsewhere")).toBe(true);
        expect(kinds.slice(at + 1).every((kind) => kind === "old")).toBe(true);
        expect(member.sequence).toBe(2);
      }
    }
  });

  it("brings the first KEK to who was admitted before", async () => {
    const group = createGroup();
    const admission = group.tree.prepareAdmission(1, seed(77));
    const [leaf] = admission.admitted as unknown as readonly [number];
    admission.commit();
    const waiting = group.join(leaf, 1);
    expect([waiting.kekSpi, waiting.kek()]).toEqual([undefined, undefined]);
    const [packet] = await group.change(2, {});
    tokens = 0;
    expect(await waiting.receive(packet as Uint8Array, request)).toEqual({ kind: "unverifiable" });
    tokens = 1;
    expect((await installed(waiting, packet as Uint8Array)).dataKeys).toEqual([tek(2)]);
  });
});

describe("a member", () => {
  it("takes data keys and policies under the KEK that is there", async () => {
    const group = createGroup();
    const member = group.join(group.leaves[0] as number, 1);
    const added = { ...(dataPolicies[1] as (typeof dataPolicies)[number]), mkis: [] };
    const dataKeys = [{ dataSa: 2, mki: 50, key: seed(50) }];
    const [packet] = await sealRekey(nodeCrypto, { ...group.base(), sequence: 2, dataKeys, policies: { data: [added] } });
    const outcome = await installed(member, packet as Uint8Array);
    expect(outcome).toMatchObject({ kek: undefined, lifetime: undefined, dataKeys, gap: false });
    expect(outcome.policies.data).toEqual([...ONE_SA, added]);
    expect(member.policies).toBe(outcome.policies);
    expect(member.kekSpi).toBe(1);
  });

  it("tells a gap that may have cost it a key", async () => {
    const added = { ...(dataPolicies[1] as (typeof dataPolicies)[number]), mkis: [] };
    const group = createGroup({ policies: { data: [...ONE_SA, added] } });
    const member = group.join(group.leaves[0] as number, 1);
    const [packet] = await sealRekey(nodeCrypto, { ...group.base(), sequence: 3, dataKeys: [tek(3)] });
    expect((await installed(member, packet as Uint8Array)).gap).toBe(true);
    const dataKeys = [tek(5), { dataSa: 2, mki: 51, key: seed(51) }];
    const [both] = await sealRekey(nodeCrypto, { ...group.base(), sequence: 5, dataKeys });
    expect((await installed(member, both as Uint8Array)).gap).toBe(false);
  });

  it("keeps what overtook another message, with a token each", async () => {
    const group = createGroup({ rekey: { algorithm: "lkh" }, members: 8 });
    const member = group.join(7, 1);
    const [second] = await group.change(2, { leave: [8] });
    const [third] = await group.change(3, { leave: [14] });
    tokens = 1;
    expect(await member.receive(third as Uint8Array, request)).toEqual({ kind: "behind", sequence: 3 });
    expect(await member.receive(third as Uint8Array, request)).toEqual({ kind: "unverifiable" });
    await installed(member, second as Uint8Array);
    await installed(member, third as Uint8Array);
    expect(await receiveAll(member, [second as Uint8Array, third as Uint8Array])).toEqual(["old", "old"]);
  });

  it("changes nothing for what is forged, damaged or of another group", async () => {
    const group = createGroup();
    const member = group.join(group.leaves[0] as number, 1);
    const before = formatHex(member.kek()?.key as Uint8Array);
    const [packet] = (await group.change(2, { join: 1 })) as [Uint8Array];
    for (let at = 0; at < packet.length; at++) {
      const changed = packet.slice();
      changed[at] = (changed[at] as number) ^ 1;
      tokens = 1;
      expect(["discarded", "old"], `octet ${at}`).toContain((await member.receive(changed, request)).kind);
      expect((await member.receive(packet.subarray(0, at), request)).kind).toBe("discarded");
    }
    expect(member.sequence).toBe(1);
    expect(formatHex(member.kek()?.key as Uint8Array)).toBe(before);
    await installed(member, packet);
  });

  it("believes no other member: V alone is not enough where messages are signed", async () => {
    const group = createGroup();
    const victim = group.join(group.leaves[0] as number, 1);
    const pair = await nodeCrypto.generateKeyPair("ed25519");
    const posing = { ...group.base(), signer: nodeCrypto.importPrivateKey(pair.pkcs8) };
    const [forged] = await sealRekey(nodeCrypto, { ...posing, sequence: 2, dataKeys: [tek(2)] });
    expect(await victim.receive(forged as Uint8Array, request)).toEqual({ kind: "discarded", reason: "not authentic" });
    const { verificationKey: _, ...unsigned } = { ...group.rekey, signature: "none" as const, macLength: 16 as const };
    const { signer: __, ...base } = group.base();
    const [bare] = await sealRekey(nodeCrypto, { ...base, rekey: unsigned, sequence: 2, dataKeys: [tek(2)] });
    expect(await victim.receive(bare as Uint8Array, request)).toEqual({ kind: "discarded", reason: "not authentic" });
  });

  it("spends no signature check on what fails at V", async () => {
    let checks = 0;
    const counting: CryptoProvider = Object.assign(Object.create(nodeCrypto) as CryptoProvider, {
      verify: (...args: Parameters<CryptoProvider["verify"]>) => {
        checks++;
        return nodeCrypto.verify(...args);
      },
    });
    const group = createGroup({ crypto: counting });
    const member = group.join(group.leaves[0] as number, 1);
    const [packet] = (await group.change(2, { join: 1 })) as [Uint8Array];
    const wrong = packet.slice();
    wrong[packet.length - 80] = (wrong[packet.length - 80] as number) ^ 1;
    await member.receive(wrong, request);
    expect(checks).toBe(0);
    await installed(member, packet);
    expect(checks).toBe(1);
  });

  it("follows a new signing key that the old one signed, with a credential where it knows the owner", async () => {
    const group = createGroup();
    const owner = nodeCrypto.importPrivateKey(octets("ownerPkcs8"));
    const next = nodeCrypto.importPrivateKey((await nodeCrypto.generateKeyPair("ed25519")).pkcs8);
    const rekey = { ...group.rekey, verificationKey: next.publicKey.spki };
    const credential = await issueCredential(nodeCrypto, owner, {
      group: constants.group,
      identity: GCKS.data,
      key: next.publicKey.spki,
      notBefore: 0,
      notAfter: 1000,
    });
    const member = (ownerKey: typeof owner.publicKey | undefined): RekeyReceiver =>
      createRekeyReceiver({
        crypto: nodeCrypto,
        gcks: GCKS,
        constants,
        policies: { group: groupPolicy, rekey: group.rekey, data: ONE_SA },
        keyPath: createKeyPath(nodeCrypto, group.tree.download(group.leaves[1] as number)),
        sequence: 1,
        time: NOW,
        receivedAtMs: 0,
        ...(ownerKey === undefined ? {} : { ownerKey }),
      });
    const content: RekeyContent = { ...group.base(), sequence: 2, dataKeys: [tek(2)], policies: { rekey, data: [] } };
    const [bare] = await sealRekey(nodeCrypto, content);
    const [certified] = await sealRekey(nodeCrypto, { ...content, credential });
    expect((await member(owner.publicKey).receive(bare as Uint8Array, request)).kind).toBe("lost");
    await installed(member(undefined), bare as Uint8Array);
    const strict = member(owner.publicKey);
    await installed(strict, certified as Uint8Array);
    const after = { ...group.base(), rekey, sequence: 3, dataKeys: [tek(3)] };
    const [old] = await sealRekey(nodeCrypto, after);
    expect((await strict.receive(old as Uint8Array, request)).kind).toBe("discarded");
    const [signedByNext] = await sealRekey(nodeCrypto, { ...after, signer: next });
    await installed(strict, signedByNext as Uint8Array);
  });

  it("changes nothing where the data keys do not fit, although it opens the edges", async () => {
    const group = createGroup();
    const member = group.join(group.leaves[1] as number, 1);
    const prepared = group.tree.prepareRekey({ join: 1 }, { version: 2, seed: seed(2) });
    const change = { prepared, immediate: false, lifetime: 3600 };
    const stray = { ...tek(2), dataSa: 9 };
    const [strange] = await sealRekey(nodeCrypto, { ...group.base(), sequence: 2, change, dataKeys: [stray] });
    const before = { kek: member.kek(), kekSpi: member.kekSpi, sequence: member.sequence };
    expect((await member.receive(strange as Uint8Array, request)).kind).toBe("lost");
    expect({ kek: member.kek(), kekSpi: member.kekSpi, sequence: member.sequence }).toEqual(before);
    const [fitting] = await sealRekey(nodeCrypto, { ...group.base(), sequence: 2, change, dataKeys: [tek(2)] });
    expect((await installed(member, fitting as Uint8Array)).dataKeys).toEqual([tek(2)]);
  });

  it("refuses a policy below its minimum, or of another tree", async () => {
    const group = createGroup();
    const weaker = { ...group.rekey, deactivationDelayMs: 60_000 };
    const member = createRekeyReceiver({
      crypto: nodeCrypto,
      gcks: GCKS,
      constants,
      policies: { group: groupPolicy, rekey: group.rekey, data: ONE_SA },
      keyPath: createKeyPath(nodeCrypto, group.tree.download(group.leaves[1] as number)),
      sequence: 1,
      time: NOW,
      receivedAtMs: 0,
      minimum: { deactivationDelayMs: 30_000 },
    });
    for (const rekey of [weaker, { ...group.rekey, keyLength: 32 as const }]) {
      const [packet] = await sealRekey(nodeCrypto, {
        ...group.base(),
        sequence: 2,
        dataKeys: [tek(2)],
        policies: { rekey, data: [] },
      });
      expect((await member.receive(packet as Uint8Array, request)).kind).toBe("lost");
    }
    expect(member.sequence).toBe(1);
  });

  it("counts a heartbeat that is new by its own order and not held back", async () => {
    const group = createGroup();
    const member = group.join(group.leaves[0] as number, 1);
    const at = (ms: number, sequence = 1): Promise<Uint8Array> =>
      sealHeartbeat(nodeCrypto, { ...group.base(), sequence }, new Uint8Array(shifted(ms)));
    const judge = async (octetsOf: Promise<Uint8Array>, nowMs: number): Promise<RekeyOutcome> =>
      member.receive(await octetsOf, { ...request, nowMs });
    expect(await judge(at(10_000), 10_050)).toEqual({ kind: "heartbeat", missed: false });
    expect(await judge(at(10_000), 10_060)).toEqual({ kind: "old" });
    expect(await judge(at(20_000), 49_000)).toEqual({ kind: "heartbeat", missed: false });
    expect(await judge(at(30_000), 60_001)).toEqual({ kind: "old" });
    expect(await judge(at(60_000, 2), 60_100)).toEqual({ kind: "heartbeat", missed: true });
    const [rekey] = (await group.change(2, { replace: true })) as [Uint8Array];
    await installed(member, rekey);
    expect((await judge(at(70_000, 1), 70_000)).kind).toBe("old");
  });

  it("believes an end by its signature, even if it missed what came before", async () => {
    const group = createGroup({ rekey: { algorithm: "lkh" } });
    const member = group.join(group.leaves[0] as number, 1);
    await group.change(2, { replace: true });
    const end = await sealEnd(nodeCrypto, { ...group.base(), sequence: 3 }, NOW, true);
    tokens = 1;
    expect(await member.receive(end, request)).toEqual({ kind: "end", restart: true });
    const plain = await sealEnd(nodeCrypto, { ...group.base(), sequence: 3 }, NOW, false);
    tokens = 1;
    expect(await member.receive(plain, request)).toEqual({ kind: "end", restart: false });
  });

  it("judges messages one after the other", async () => {
    const group = createGroup();
    const member = group.join(group.leaves[0] as number, 1);
    const [second] = (await group.change(2, { replace: true })) as [Uint8Array];
    const [third] = (await group.change(3, { replace: true })) as [Uint8Array];
    tokens = 0;
    const outcomes = await Promise.all([second, second, third].map((packet) => member.receive(packet, request)));
    expect(outcomes.map(({ kind }) => kind)).toEqual(["installed", "old", "installed"]);
  });

  it("forgets its keys", async () => {
    const group = createGroup();
    const member = group.join(group.leaves[0] as number, 1);
    const key = member.kek()?.key;
    member.wipe();
    expect(member.kekSpi).toBeUndefined();
    wipe(key);
  });
});

describe("sealing refuses", () => {
  const code = expect.objectContaining({ code: "gsa.rekey-content" });

  it("another signer than the policy's, and a change of another sequence", async () => {
    const group = createGroup();
    const { signer: _, ...unsigned } = group.base();
    await expect(sealRekey(nodeCrypto, { ...unsigned, sequence: 2, dataKeys: [] })).rejects.toThrow(code);
    const prepared = group.tree.prepareRekey({ replace: true }, { version: 2, seed: seed(2) });
    const change = { prepared, immediate: false, lifetime: 60 };
    await expect(sealRekey(nodeCrypto, { ...group.base(), sequence: 3, change, dataKeys: [] })).rejects.toThrow(code);
  });

  it("what does not fit a packet", async () => {
    const group = createGroup();
    const dataKeys = Array.from({ length: 40 }, (_, index) => tek(index + 1));
    await expect(sealRekey(nodeCrypto, { ...group.base(), sequence: 2, dataKeys })).rejects.toThrow(code);
  });
});

/** The time of the GSA and so many milliseconds. */
function shifted(ms: number): Uint8Array {
  const base = new DataView(NOW.buffer, NOW.byteOffset).getBigUint64(0);
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, base + (BigInt(ms) << 32n) / 1000n);
  return out;
}
