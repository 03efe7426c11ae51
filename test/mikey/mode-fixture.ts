import { equalBytes, parseHex, utf8 } from "../../src/bytes/index.js";
import type { CertificateVerifier, CryptoProvider, SignatureScheme } from "../../src/crypto/index.js";
import { createCertificateVerifier } from "../../src/crypto/x509/index.js";
import {
  type BeginRequest,
  type Credential,
  createInitiator,
  createReplayCache,
  createResponder,
  createTimestampSource,
  decodeMessage,
  ExtensionType,
  encodeHello,
  encodeSigned,
  type GeneralExtensionPayload,
  type Identity,
  IdType,
  type Initiator,
  type InitiatorOptions,
  type KeyPairCredential,
  type KeyRequest,
  type MikeyPolicy,
  MODES,
  type ModeName,
  type Payload,
  type Responder,
  type ResponderOptions,
  RFC_3830_ALGORITHMS,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { NOW, PSK, policies } from "./exchange-fixture.js";
import { vectorFiles } from "./mikey-vectors.js";

export const ALICE: Identity = { idType: IdType.URI, data: utf8("sip:alice@example.org") };
export const BOB: Identity = { idType: IdType.URI, data: utf8("sip:bob@example.org") };

/** The key pairs of the vectors: RSA 2048, Ed25519 and P-256 of Alice and Bob, certified by one root. */
export type KeyName = "alice" | "bob" | "alice-ed25519" | "bob-ed25519" | "alice-p256" | "bob-p256";

function entryOf(name: KeyName | "root") {
  const file = vectorFiles.find(({ credentials }) => credentials?.[name] !== undefined && credentials?.["root"] !== undefined);
  const entry = file?.credentials?.[name];
  if (entry === undefined) throw new Error(`no key ${name}`);
  return entry;
}

export const ROOT = parseHex(entryOf("root").certificate);

export function keyPair(crypto: CryptoProvider, name: KeyName): KeyPairCredential {
  const { pkcs8, certificate } = entryOf(name);
  return { privateKey: crypto.importPrivateKey(parseHex(pkcs8)), chain: [parseHex(certificate)] };
}

/** Trusts the root of the vectors. */
export function verifier(crypto: CryptoProvider): CertificateVerifier {
  return createCertificateVerifier({ roots: [ROOT], crypto });
}

/** One way to key: who the parties are, and what both hold acceptable. */
export interface ModeCase {
  readonly title: string;
  readonly mode: ModeName;
  /** Numbers of docs/protocol.md, announced by HELLO. */
  readonly hello?: boolean;
  readonly policy?: MikeyPolicy;
  readonly keys?: readonly [initiator: KeyName, responder: KeyName];
  /** RSA keys for envelopes, where the others only sign. */
  readonly encryption?: readonly [initiator: KeyName, responder: KeyName];
}

const RSA = ["alice", "bob"] as const;
const ED25519 = ["alice-ed25519", "bob-ed25519"] as const;
const P256 = ["alice-p256", "bob-p256"] as const;
/** HMAC-SHA-256 and AES-CM-256 (RFC 6043), first. */
const SHA_256: MikeyPolicy = { prfs: [1, 0], macAlgs: [2, 1], encrAlgs: [3, 1] };

export const MODE_CASES: readonly ModeCase[] = [
  { title: "PSK", mode: "PSK" },
  { title: "PSK with HMAC-SHA-256", mode: "PSK", hello: true, policy: SHA_256 },
  { title: "PK, envelope key cached", mode: "PK", keys: RSA },
  { title: "PK, envelope key not cached", mode: "PK", keys: RSA, policy: { cacheEnvelopeKeys: false } },
  {
    title: "PK as RFC 3830 has everybody implement it",
    mode: "PK",
    keys: RSA,
    policy: { ...RFC_3830_ALGORITHMS, encryptionSchemes: ["rsa-pkcs1"] },
  },
  { title: "PK signed with Ed25519", mode: "PK", hello: true, keys: ED25519, encryption: RSA, policy: SHA_256 },
  { title: "DH", mode: "DH", keys: RSA },
  {
    title: "DH over X25519, signed with Ed25519",
    mode: "DH",
    hello: true,
    keys: ED25519,
    policy: { ...SHA_256, groups: ["x25519"] },
  },
  { title: "DH over P-256, signed with ECDSA", mode: "DH", hello: true, keys: P256, policy: { groups: ["p256"] } },
  { title: "DHHMAC", mode: "DHHMAC" },
  { title: "DHHMAC over X25519", mode: "DHHMAC", hello: true, policy: { ...SHA_256, groups: ["x25519"] } },
  { title: "RSA-R, envelope key cached", mode: "RSA-R", keys: RSA },
  { title: "RSA-R, envelope key not cached", mode: "RSA-R", keys: RSA, policy: { cacheEnvelopeKeys: false } },
  { title: "RSA-R signed with ECDSA", mode: "RSA-R", hello: true, keys: P256, encryption: RSA },
];

/** The case of a title. */
export function caseNamed(title: string): ModeCase {
  const row = MODE_CASES.find((one) => one.title === title);
  if (row === undefined) throw new Error(`no case ${title}`);
  return row;
}

export const HELLO: GeneralExtensionPayload = {
  kind: "EXT",
  extType: ExtensionType.HELLO,
  data: encodeHello({ version: 1, nonce: new Uint8Array(16).fill(7), group: new Uint8Array(0) }),
};

/** What a party of a case has: the key pair, and whose certificates it trusts. */
export function partyOf(
  crypto: CryptoProvider,
  row: ModeCase,
  side: 0 | 1,
): { keyPairs: readonly KeyPairCredential[]; policy: MikeyPolicy } {
  const policy: MikeyPolicy = { certificates: verifier(crypto), ...row.policy };
  if (row.keys === undefined) return { keyPairs: [], policy };
  const own = keyPair(crypto, row.keys[side]);
  const pair = row.encryption === undefined ? own : { ...own, encryption: encryptionPair(crypto, row.encryption[side]) };
  return { keyPairs: [pair], policy };
}

function encryptionPair(crypto: CryptoProvider, name: KeyName): NonNullable<KeyPairCredential["encryption"]> {
  const { privateKey, chain } = keyPair(crypto, name);
  return { privateKey: privateKey as NonNullable<KeyPairCredential["encryption"]>["privateKey"], chain };
}

/** The credential of the Initiator of a case. */
export function credentialOf(crypto: CryptoProvider, row: ModeCase, side: 0 | 1 = 0): Credential {
  if (row.mode === "PSK") return { psk: PSK };
  if (row.mode === "DHHMAC") return { psk: PSK, mode: "DHHMAC" };
  const [own] = partyOf(crypto, row, side).keyPairs as [KeyPairCredential];
  const other = row.encryption ?? (row.keys as readonly [KeyName, KeyName]);
  const peer = row.mode === "PK" ? { peer: { chain: keyPair(crypto, other[side === 0 ? 1 : 0]).chain } } : {};
  return { mode: row.mode, keyPair: own, ...peer };
}

export interface ModePair {
  readonly clock: { time: number; now(): number };
  readonly initiator: Initiator;
  readonly responder: Responder;
}

/** Alice, who begins in the mode of a case, and Bob, who answers. */
export function modePair(
  row: ModeCase,
  crypto: CryptoProvider,
  options: { readonly initiator?: Partial<InitiatorOptions>; readonly responder?: Partial<ResponderOptions> } = {},
): ModePair {
  const clock = { time: NOW, now: () => clock.time };
  const alice = partyOf(crypto, row, 0);
  const bob = partyOf(crypto, row, 1);
  return {
    clock,
    initiator: createInitiator({
      crypto,
      clock,
      timestamps: createTimestampSource(clock),
      policy: alice.policy,
      ...options.initiator,
    }),
    responder: createResponder({
      crypto,
      clock,
      replayCache: createReplayCache(),
      identity: BOB,
      policy: bob.policy,
      keyPairs: bob.keyPairs,
      findCredential: (id) => (id !== undefined && equalBytes(id.data, ALICE.data) ? { psk: PSK } : undefined),
      ...options.responder,
    }),
  };
}

/** One stream from Alice, one from Bob, one key. */
export function modeRequest(crypto: CryptoProvider, row: ModeCase, changes: Partial<BeginRequest> = {}): BeginRequest {
  return {
    credential: credentialOf(crypto, row),
    initiatorId: ALICE,
    responderId: BOB,
    cryptoSessions: [{ ssrc: 0xcafebabe }, {}],
    policies: policies(),
    keys: keysOf(row.mode, 1),
    ...(row.hello === true ? { extensions: [HELLO] } : {}),
    ...changes,
  };
}

/** What an Initiator says of the key of a mode. */
export function keysOf(mode: ModeName, spi: number): readonly KeyRequest[] {
  return MODES[mode].keys === "responder" ? [] : [{ kind: "TGK", spi: Uint8Array.of(0, 0, 0, spi) }];
}

/** The message with other payloads, signed anew by this key. */
export async function resigned(
  octets: Uint8Array,
  pair: KeyPairCredential,
  change: (payload: Payload) => Payload | undefined,
  suffix: readonly Uint8Array[] = [],
): Promise<Uint8Array> {
  const { header, payloads } = decodeMessage(octets);
  const schemes: Readonly<Record<string, SignatureScheme>> = {
    rsa: "rsa-pss-sha256",
    ed25519: "ed25519",
    "ec-p256": "ecdsa-p256-sha256",
  };
  const scheme = schemes[pair.privateKey.publicKey.kind] as SignatureScheme;
  const changed = payloads
    .slice(0, -1)
    .map(change)
    .filter((payload) => payload !== undefined);
  return encodeSigned(nodeCrypto, { signer: pair.privateKey, scheme }, header, changed, suffix);
}
