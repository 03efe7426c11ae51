/** Proofs of possession: the messages of docs/protocol.md §6, for two-party sessions and for groups (§19) alike. */
import { concatBytes, equalBytes, WatchwordError, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import {
  CsMapType,
  DataType,
  decodeMessage,
  decodePossessionClaim,
  ExtensionType,
  encodeMessage,
  encodePossessionClaim,
  MacAlg,
  MIKEY_VERSION,
  PROTOCOL_VERSION,
  prf,
  TimestampType,
} from "../mikey/index.js";
import { LABEL, prefixed } from "./labels.js";

/** What a party concludes from the end of a session (docs/protocol.md §6.3). */
export type ProofVerdict = "verified" | "rejected" | "absent";

/** What proofs under one registration have in common. */
export interface ProofParty {
  readonly csbId: number;
  readonly prfFunc: number;
  /** TH. */
  readonly transcript: Uint8Array;
  /** K_pop. */
  readonly proofKey: Uint8Array;
  /** L16 ID_sender ‖ L16 ID_receiver of what this party sends ... */
  readonly ownIds: Uint8Array;
  /** ... and of what the other party sends. */
  readonly peerIds: Uint8Array;
}

/** What a proof needs of a key, instead of the key: g of docs/protocol.md §5, §19. */
export interface HeldKey {
  readonly spi: Uint8Array;
  readonly g: Uint8Array;
}

/** Octets of HMAC-SHA-256-256 (RFC 6043 §6.2). */
const MAC_LENGTH = 32;

/** A proof as it was received, and found right. */
export interface Proof {
  /** Whether an acknowledgement is wanted. */
  readonly acknowledge: boolean;
  /** TS value. */
  readonly t: Uint8Array;
  /** Data of the PoP extension. */
  readonly claim: Uint8Array;
  /** The keys whose possession was proven. */
  readonly held: readonly HeldKey[];
}

/** g = PRF(key, "ww1 held" ‖ L8 group ‖ L8 SPI, 256) (docs/protocol.md §5). */
export function heldValue(crypto: CryptoProvider, key: Uint8Array, group: Uint8Array, spi: Uint8Array): Uint8Array {
  return prf(crypto, "sha256", key, concatBytes(LABEL.held, prefixed(1, group), prefixed(1, spi)), 256);
}

/** A de-registration (docs/protocol.md §6). */
export function sealProof(
  crypto: CryptoProvider,
  party: ProofParty,
  t: Uint8Array,
  held: readonly HeldKey[],
  acknowledge: boolean,
): Uint8Array {
  const claim = encodePossessionClaim({
    version: PROTOCOL_VERSION,
    spis: held.map(({ spi }) => spi),
    transcript: party.transcript,
  });
  return seal(crypto, party, DataType.DEREGISTRATION, acknowledge, t, claim, inOrderOf(claim, held), LABEL.request, NOTHING);
}

/** The acknowledgement of a de-registration that was found right. */
export function sealAcknowledgement(crypto: CryptoProvider, party: ProofParty, request: Uint8Array, proof: Proof): Uint8Array {
  const hash = crypto.hash("sha256", request);
  return seal(crypto, party, DataType.DEREGISTRATION_ACK, false, proof.t, proof.claim, proof.held, LABEL.acknowledgement, hash);
}

/** §6.3 steps 1 to 4; undefined at the first failure, whatever it was. @param find the key with this SPI, where it is held */
export function openProof(
  crypto: CryptoProvider,
  party: ProofParty,
  octets: Uint8Array,
  find: (spi: Uint8Array) => HeldKey | undefined,
): Proof | undefined {
  return open(crypto, party, octets, DataType.DEREGISTRATION, find, LABEL.request, NOTHING);
}

/** §6.4. @param find as for the request */
export function openAcknowledgement(
  crypto: CryptoProvider,
  party: ProofParty,
  request: Uint8Array,
  acknowledgement: Uint8Array | undefined,
  find: (spi: Uint8Array) => HeldKey | undefined,
): ProofVerdict {
  if (acknowledgement === undefined) return "absent";
  const hash = crypto.hash("sha256", request);
  const sent = partsOf(request, DataType.DEREGISTRATION);
  const proof = open(crypto, party, acknowledgement, DataType.DEREGISTRATION_ACK, find, LABEL.acknowledgement, hash);
  if (sent === undefined || proof === undefined) return "rejected";
  return equalBytes(proof.t, sent.t) && equalBytes(proof.claim, sent.claim) ? "verified" : "rejected";
}

const NOTHING = new Uint8Array(0);

function seal(
  crypto: CryptoProvider,
  party: ProofParty,
  dataType: number,
  verificationRequested: boolean,
  t: Uint8Array,
  claim: Uint8Array,
  held: readonly HeldKey[],
  label: Uint8Array,
  requestHash: Uint8Array,
): Uint8Array {
  const octets = encodeMessage({
    header: {
      version: MIKEY_VERSION,
      dataType,
      verificationRequested,
      prf: party.prfFunc,
      csbId: party.csbId,
      csMap: { type: CsMapType.EMPTY, count: 0 },
    },
    payloads: [
      { kind: "T", tsType: TimestampType.NTP_UTC, value: t },
      { kind: "EXT", extType: ExtensionType.PROOF_OF_POSSESSION, data: claim },
      { kind: "V", authAlg: MacAlg.HMAC_SHA_256_256, data: new Uint8Array(MAC_LENGTH) },
    ],
  });
  const covered = octets.subarray(0, octets.length - MAC_LENGTH);
  octets.set(proofMac(crypto, party, held, label, covered, party.ownIds, requestHash), covered.length);
  return octets;
}

function open(
  crypto: CryptoProvider,
  party: ProofParty,
  octets: Uint8Array,
  dataType: number,
  find: (spi: Uint8Array) => HeldKey | undefined,
  label: Uint8Array,
  requestHash: Uint8Array,
): Proof | undefined {
  const parts = partsOf(octets, dataType);
  if (parts === undefined || parts.csbId !== party.csbId || !equalBytes(parts.transcript, party.transcript)) return undefined;
  const held = parts.spis.map(find).filter((key) => key !== undefined);
  if (held.length !== parts.spis.length) return undefined;
  const covered = octets.subarray(0, octets.length - MAC_LENGTH);
  const mac = proofMac(crypto, party, held, label, covered, party.peerIds, requestHash);
  if (!equalBytes(mac, octets.subarray(octets.length - MAC_LENGTH))) return undefined;
  return { acknowledge: parts.acknowledge, t: parts.t, claim: parts.claim, held };
}

/** docs/protocol.md §6.2. */
function proofMac(
  crypto: CryptoProvider,
  party: ProofParty,
  held: readonly HeldKey[],
  label: Uint8Array,
  covered: Uint8Array,
  ids: Uint8Array,
  requestHash: Uint8Array,
): Uint8Array {
  const possession = held.flatMap(({ spi, g }) => [prefixed(1, spi), g]);
  const outer = crypto.hmac("sha256", party.proofKey);
  const key = outer.compute(label, Uint8Array.of(held.length), ...possession);
  outer.wipe();
  const inner = crypto.hmac("sha256", key);
  const mac = inner.compute(covered, ids, party.transcript, requestHash);
  inner.wipe();
  wipe(key);
  return mac;
}

/** The keys in the order in which a claim names them. */
function inOrderOf(claim: Uint8Array, held: readonly HeldKey[]): HeldKey[] {
  return decodePossessionClaim(claim).spis.map((spi) => held.find((key) => equalBytes(key.spi, spi)) as HeldKey);
}

interface ProofParts {
  readonly csbId: number;
  readonly acknowledge: boolean;
  readonly t: Uint8Array;
  readonly claim: Uint8Array;
  readonly spis: readonly Uint8Array[];
  readonly transcript: Uint8Array;
}

/** §6.3 step 1: exactly HDR T EXT(PoP) V, every field as §6 says. */
function partsOf(octets: Uint8Array, dataType: number): ProofParts | undefined {
  try {
    const { header, payloads } = decodeMessage(octets);
    const [t, extension, v] = payloads;
    if (header.version !== MIKEY_VERSION || header.dataType !== dataType || payloads.length !== 3) return undefined;
    if (header.csMap.type !== CsMapType.EMPTY || !("count" in header.csMap) || header.csMap.count !== 0) return undefined;
    if (t?.kind !== "T" || t.tsType !== TimestampType.NTP_UTC) return undefined;
    if (extension?.kind !== "EXT" || extension.extType !== ExtensionType.PROOF_OF_POSSESSION) return undefined;
    if (v?.kind !== "V" || v.authAlg !== MacAlg.HMAC_SHA_256_256 || v.data.length !== MAC_LENGTH) return undefined;
    const claim = decodePossessionClaim(extension.data);
    if (claim.version !== PROTOCOL_VERSION) return undefined;
    const { csbId, verificationRequested: acknowledge } = header;
    return { csbId, acknowledge, t: t.value, claim: extension.data, spis: claim.spis, transcript: claim.transcript };
  } catch (error) {
    if (error instanceof WatchwordError) return undefined;
    throw error;
  }
}

/** A T as one number; a T that is not 8 octets of NTP counts as 0 (docs/protocol.md §6). */
export function ntp64(t: Uint8Array): bigint {
  return t.length === 8 ? new DataView(t.buffer, t.byteOffset).getBigUint64(0) : 0n;
}

/** How much later a time is than another one, in milliseconds, across the end of an era. */
export function ntpMilliseconds(later: bigint, earlier: bigint): number {
  return Number((BigInt.asIntN(64, later - earlier) * 1000n) >> 32n);
}

/** The inverse of `ntp64`. */
export function ntpOctets(value: bigint): Uint8Array {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, value);
  return out;
}
