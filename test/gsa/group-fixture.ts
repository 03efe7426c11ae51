import { readFileSync } from "node:fs";
import { parseHex, utf8 } from "../../src/bytes/index.js";
import type { PathDownload } from "../../src/gkma/index.js";
import type {
  DataKey,
  DataSaPolicy,
  GroupConstants,
  GroupPolicies,
  GroupPolicy,
  GsaContent,
  RekeyPolicy,
} from "../../src/gsa/index.js";
import { decodeCredential, type Identity } from "../../src/mikey/index.js";

function read<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../vectors/${name}`, import.meta.url), "utf8")) as T;
}

/** `test/vectors/group-messages.json`. */
export const vectors = read<Record<string, string> & { gsaKeys: Record<string, string>; rekeyKeys: Record<string, string> }>(
  "group-messages.json",
);
/** `test/vectors/group-keys.json`. */
export const keyVectors = read<{
  readonly group: string;
  readonly csbId: string;
  readonly rand: string;
  readonly kwp: readonly { key: string; plaintext: string; wrapped: string }[];
  readonly provisioned: Record<string, string> & { groups: readonly string[] };
  readonly v: readonly { kek: string; spi: number; key: string }[];
  readonly held: readonly { key: string; kekSpi?: number; mki?: number; id: string; g: string }[];
  readonly perSsrc: readonly { gtgk: string; mki: number; ssrc: number; suite: string; tek: string; salt: string }[];
  readonly signing: { spki: string; pkcs8: string; keyId: string };
}>("group-keys.json");

export const octets = (name: string): Uint8Array => parseHex(vectors[name] as string);
const uri = (text: string): Identity => ({ idType: 1, data: utf8(text) });

export const GCKS = uri("sip:gcks@example.org");
export const MEMBER = uri("sip:alice@example.org");
export const NOW = octets("now");
export const constants: GroupConstants = {
  group: octets("group"),
  csbId: Number.parseInt(vectors["csbId"] as string, 16),
  rand: octets("rand"),
};

export const groupPolicy: GroupPolicy = {
  group: constants.group,
  member: { number: 42, role: { send: true, receive: true }, ssrcs: [{ stream: 1, ssrc: 0x01020304 }], lifetime: 3600 },
  access: { joins: true, leaves: true, joinsBatched: false, leavesBatched: false },
  deregistration: "acknowledged",
  confirmation: true,
  owner: "owner@example.org",
  members: 3,
};

export const rekeyPolicy: RekeyPolicy = {
  algorithm: "ofc",
  algorithmVersion: 1,
  degree: 2,
  keyLength: 16,
  macLength: 16,
  signature: "ed25519",
  verificationKey: octets("signingSpki"),
  controlAddress: "udp://239.0.0.1:2269",
  kekLifetime: 86_400,
  heartbeatMs: 10_000,
  activationDelayMs: 2000,
  deactivationDelayMs: 10_000,
  retransmission: { count: 3, firstMs: 250 },
  resynchronisation: ["registration"],
  repairServers: [],
};

const data = { srtp: { suite: "AES_CM_128_HMAC_SHA1_80" }, streams: [], sources: [], destinations: [], lifetime: 3600 } as const;
export const dataPolicies: readonly DataSaPolicy[] = [
  { ...data, number: 1, arrangement: "shared", streams: [1], destinations: ["rtp://239.0.0.2:5004"], mkis: [3] },
  { ...data, number: 2, arrangement: "per-ssrc", sources: [0xcafebabe], mkis: [9] },
];

export const policies: GroupPolicies & { group: GroupPolicy; rekey: RekeyPolicy } = {
  group: groupPolicy,
  rekey: rekeyPolicy,
  data: dataPolicies,
};

export const path: PathDownload = {
  algorithm: "ofc",
  degree: 2,
  keyLength: 16,
  largestId: 6,
  version: 7,
  leaf: 5,
  leafKey: octets("leafKey"),
  path: [
    { node: 2, key: octets("nodeKey") },
    { node: 0, key: octets("kekBefore") },
  ],
};

export const dataKeys: readonly DataKey[] = [
  { dataSa: 1, mki: 3, key: octets("tek"), salt: octets("salt") },
  { dataSa: 2, mki: 9, key: octets("gtgk") },
];

/** What the GSA message of the vectors says. */
export const gsaContent: GsaContent = {
  constants,
  sequence: 7,
  gcks: GCKS,
  member: MEMBER,
  policies,
  time: NOW,
  senders: [{ ssrc: 0xcafebabe, running: { roc: 1, seq: 65_000 }, gone: false, dataSa: 2, identity: utf8("bob") }],
  credential: decodeCredential(octets("credential")),
  path,
  dataKeys,
};
