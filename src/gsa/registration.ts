import { concatBytes, equalBytes, formatHex, utf8, WatchwordError, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import {
  CsMapType,
  DataType,
  type DecodedMessage,
  decodeMessage,
  ExtensionType,
  encodeMessage,
  MacAlg,
  MIKEY_VERSION,
  prf,
  TimestampType,
} from "../mikey/index.js";
import { decodePossessionClaim, encodePossessionClaim, PROTOCOL_VERSION } from "./pop.js";

/** What a party concludes from the end of a session (docs/protocol.md §6.3). */
export type ProofVerdict = "verified" | "rejected" | "absent";

/** The exchange that a registration stands on (docs/protocol.md §5). Identities and nonces are empty where there were none. */
export interface RegistrationFacts {
  readonly iMessage: Uint8Array;
  /** Empty where no response was sent. */
  readonly rMessage: Uint8Array;
  readonly dataType: number;
  readonly csbId: number;
  readonly prfFunc: number;
  readonly rand: Uint8Array;
  /** TS value of the I_MESSAGE. */
  readonly t: Uint8Array;
  readonly initiatorId: Uint8Array;
  readonly responderId: Uint8Array;
  readonly initiatorNonce: Uint8Array;
  readonly responderNonce: Uint8Array;
  readonly role: "initiator" | "responder";
}

const LABEL_REGISTRATION = utf8("ww1 reg");
const LABEL_POP = utf8("ww1 pop");
const LABEL_HELD = utf8("ww1 held");
const LABEL_REQUEST = utf8("ww1 req");
const LABEL_ACK = utf8("ww1 ack");

/** Octets of HMAC-SHA-256-256 (RFC 6043 §6.2). */
const MAC_LENGTH = 32;
const ACKNOWLEDGEMENT_LIFE_MS = 32_000;

/**
 * The registration SA of a two-party session: what is left of the exchange once the traffic keys are installed.
 * It proves, and checks proofs, that a party holds both the exchange's secret and a traffic key.
 */
export interface RegistrationSa {
  /** SHA-256 over both messages of the exchange; binds proofs to this exchange. */
  readonly transcript: Uint8Array;
  /** Keeps what a proof needs of the traffic key with this SPI (`TEK_1`, docs/protocol.md §5) instead of the key. The newest is proven. */
  hold(spi: Uint8Array, tek1: Uint8Array): void;
  /** Drops it once the key's overlap has ended. The newest is never dropped. */
  forget(spi: Uint8Array): void;
  /** Notes a T of this CSB that was sent, or received and verified, so that a request's T exceeds it (§6). */
  noteTimestamp(t: Uint8Array): void;
  /** A de-registration. @param nowNtp the clock as NTP-UTC, 8 octets. @throws WatchwordError `gsa.no-key` before `hold` */
  request(nowNtp: Uint8Array): Uint8Array;
  /** Checks a de-registration from the other party. @param nowMs the clock, for the life of the cached acknowledgement */
  verifyRequest(request: Uint8Array, nowMs: number): { readonly verdict: ProofVerdict; readonly acknowledgement?: Uint8Array };
  /** Checks the acknowledgement of `request`, which this party sent. */
  verifyAcknowledgement(request: Uint8Array, acknowledgement: Uint8Array | undefined): ProofVerdict;
  wipe(): void;
}

/**
 * Derives a registration SA (docs/protocol.md §5).
 * @param secret S; the caller erases it afterwards
 * @throws MikeyError `mikey.repeating-key` where S repeats itself in 256-bit blocks, which the PRF would cancel (§5)
 */
export function createRegistrationSa(crypto: CryptoProvider, facts: RegistrationFacts, secret: Uint8Array): RegistrationSa {
  const bind = crypto.hash(
    "sha256",
    Uint8Array.of(facts.dataType),
    bigEndian(facts.csbId, 4),
    prefixed(1, facts.rand),
    prefixed(1, facts.t),
    prefixed(2, facts.initiatorId),
    prefixed(2, facts.responderId),
    prefixed(1, facts.initiatorNonce),
    prefixed(1, facts.responderNonce),
  );
  const transcript = crypto.hash("sha256", prefixed(4, facts.iMessage), prefixed(4, facts.rMessage));
  const lk = prf(crypto, "sha256", secret, concatBytes(LABEL_REGISTRATION, bind), 256);
  const proofKey = prf(crypto, "sha256", lk, concatBytes(LABEL_POP, transcript), 256);
  wipe(lk);
  return new Registration(crypto, facts, transcript, proofKey);
}

class Registration implements RegistrationSa {
  readonly transcript: Uint8Array;
  readonly #crypto: CryptoProvider;
  readonly #facts: RegistrationFacts;
  readonly #proofKey: Uint8Array;
  readonly #held = new Map<string, { readonly spi: Uint8Array; readonly g: Uint8Array }>();
  readonly #ownIds: Uint8Array;
  readonly #peerIds: Uint8Array;
  #newest: string | undefined;
  /** Greatest T sent or received in this CSB. */
  #greatestT: bigint;
  /** Greatest T of the I_MESSAGE and of accepted updates: what a request must exceed. */
  #floorT: bigint;
  #answered: { readonly request: Uint8Array; readonly acknowledgement: Uint8Array; readonly until: number } | undefined;

  constructor(crypto: CryptoProvider, facts: RegistrationFacts, transcript: Uint8Array, proofKey: Uint8Array) {
    this.#crypto = crypto;
    this.#facts = facts;
    this.transcript = transcript;
    this.#proofKey = proofKey;
    const initiator = prefixed(2, facts.initiatorId);
    const responder = prefixed(2, facts.responderId);
    const fromInitiator = concatBytes(initiator, responder);
    const fromResponder = concatBytes(responder, initiator);
    this.#ownIds = facts.role === "initiator" ? fromInitiator : fromResponder;
    this.#peerIds = facts.role === "initiator" ? fromResponder : fromInitiator;
    this.#floorT = ntp64(facts.t);
    this.#greatestT = this.#floorT;
  }

  hold(spi: Uint8Array, tek1: Uint8Array): void {
    const g = prf(this.#crypto, "sha256", tek1, concatBytes(LABEL_HELD, prefixed(1, new Uint8Array(0)), prefixed(1, spi)), 256);
    this.#newest = formatHex(spi);
    this.#held.set(this.#newest, { spi: spi.slice(), g });
  }

  forget(spi: Uint8Array): void {
    const name = formatHex(spi);
    if (name === this.#newest) return;
    wipe(this.#held.get(name)?.g);
    this.#held.delete(name);
  }

  noteTimestamp(t: Uint8Array): void {
    const value = ntp64(t);
    if (value > this.#floorT) this.#floorT = value;
    if (value > this.#greatestT) this.#greatestT = value;
  }

  request(nowNtp: Uint8Array): Uint8Array {
    const newest = this.#newest === undefined ? undefined : this.#held.get(this.#newest);
    if (newest === undefined) throw new WatchwordError("gsa.no-key", "no traffic key to prove possession of");
    const now = ntp64(nowNtp);
    this.#greatestT = now > this.#greatestT ? now : this.#greatestT + 1n;
    const claim = encodePossessionClaim({ version: PROTOCOL_VERSION, spis: [newest.spi], transcript: this.transcript });
    return this.#seal(DataType.DEREGISTRATION, bigintOctets(this.#greatestT), claim, [newest], LABEL_REQUEST, this.#ownIds);
  }

  verifyRequest(request: Uint8Array, nowMs: number): { readonly verdict: ProofVerdict; readonly acknowledgement?: Uint8Array } {
    if (this.#answered !== undefined && nowMs < this.#answered.until && equalBytes(request, this.#answered.request)) {
      return { verdict: "verified", acknowledgement: this.#answered.acknowledgement };
    }
    const parts = this.#open(request, DataType.DEREGISTRATION, LABEL_REQUEST, this.#peerIds);
    // §6.3 step 5: only after the MAC, so that an outsider learns nothing of the timestamps.
    if (parts === undefined || ntp64(parts.t) <= this.#floorT) return { verdict: "rejected" };
    if (!parts.message.header.verificationRequested) return { verdict: "verified" };
    const acknowledgement = this.#seal(
      DataType.DEREGISTRATION_ACK,
      parts.t,
      parts.claim,
      parts.held,
      LABEL_ACK,
      this.#ownIds,
      this.#crypto.hash("sha256", request),
    );
    this.#answered = { request: request.slice(), acknowledgement, until: nowMs + ACKNOWLEDGEMENT_LIFE_MS };
    return { verdict: "verified", acknowledgement };
  }

  verifyAcknowledgement(request: Uint8Array, acknowledgement: Uint8Array | undefined): ProofVerdict {
    if (acknowledgement === undefined) return "absent";
    const sent = partsOf(request, DataType.DEREGISTRATION);
    const parts = this.#open(
      acknowledgement,
      DataType.DEREGISTRATION_ACK,
      LABEL_ACK,
      this.#peerIds,
      this.#crypto.hash("sha256", request),
    );
    if (sent === undefined || parts === undefined) return "rejected";
    return equalBytes(parts.t, sent.t) && equalBytes(parts.claim, sent.claim) ? "verified" : "rejected";
  }

  wipe(): void {
    wipe(this.#proofKey);
    for (const { g } of this.#held.values()) wipe(g);
    this.#held.clear();
    this.#newest = undefined;
  }

  #seal(
    dataType: number,
    t: Uint8Array,
    claim: Uint8Array,
    held: readonly { readonly spi: Uint8Array; readonly g: Uint8Array }[],
    label: Uint8Array,
    ids: Uint8Array,
    requestHash: Uint8Array = new Uint8Array(0),
  ): Uint8Array {
    const octets = encodeMessage({
      header: {
        version: MIKEY_VERSION,
        dataType,
        verificationRequested: dataType === DataType.DEREGISTRATION,
        prf: this.#facts.prfFunc,
        csbId: this.#facts.csbId,
        csMap: { type: CsMapType.EMPTY, count: 0 },
      },
      payloads: [
        { kind: "T", tsType: TimestampType.NTP_UTC, value: t },
        { kind: "EXT", extType: ExtensionType.PROOF_OF_POSSESSION, data: claim },
        { kind: "V", authAlg: MacAlg.HMAC_SHA_256_256, data: new Uint8Array(MAC_LENGTH) },
      ],
    });
    const covered = octets.subarray(0, octets.length - MAC_LENGTH);
    octets.set(this.#mac(held, label, covered, ids, requestHash), covered.length);
    return octets;
  }

  /** §6.3 steps 1 to 4; undefined at the first failure, whatever it was. */
  #open(octets: Uint8Array, dataType: number, label: Uint8Array, ids: Uint8Array, requestHash: Uint8Array = new Uint8Array(0)) {
    const parts = partsOf(octets, dataType);
    if (parts === undefined) return undefined;
    if (parts.message.header.csbId !== this.#facts.csbId || !equalBytes(parts.transcript, this.transcript)) return undefined;
    const held = parts.spis.map((spi) => this.#held.get(formatHex(spi))).filter((entry) => entry !== undefined);
    if (held.length !== parts.spis.length) return undefined;
    const mac = this.#mac(held, label, octets.subarray(0, octets.length - MAC_LENGTH), ids, requestHash);
    return equalBytes(mac, octets.subarray(octets.length - MAC_LENGTH)) ? { ...parts, held } : undefined;
  }

  /** docs/protocol.md §6.2. */
  #mac(
    held: readonly { readonly spi: Uint8Array; readonly g: Uint8Array }[],
    label: Uint8Array,
    covered: Uint8Array,
    ids: Uint8Array,
    requestHash: Uint8Array,
  ): Uint8Array {
    const possession = held.flatMap(({ spi, g }) => [prefixed(1, spi), g]);
    const outer = this.#crypto.hmac("sha256", this.#proofKey);
    const key = outer.compute(label, Uint8Array.of(held.length), ...possession);
    outer.wipe();
    const inner = this.#crypto.hmac("sha256", key);
    const mac = inner.compute(covered, ids, this.transcript, requestHash);
    inner.wipe();
    wipe(key);
    return mac;
  }
}

interface ProofParts {
  readonly message: DecodedMessage;
  readonly t: Uint8Array;
  /** Data of the PoP extension. */
  readonly claim: Uint8Array;
  readonly spis: readonly Uint8Array[];
  readonly transcript: Uint8Array;
}

/** §6.3 step 1: exactly HDR T EXT(PoP) V, every field as §6 says. */
function partsOf(octets: Uint8Array, dataType: number): ProofParts | undefined {
  try {
    const message = decodeMessage(octets);
    const { header, payloads } = message;
    const [t, extension, v] = payloads;
    if (header.version !== MIKEY_VERSION || header.dataType !== dataType || payloads.length !== 3) return undefined;
    if (header.csMap.type !== CsMapType.EMPTY || !("count" in header.csMap) || header.csMap.count !== 0) return undefined;
    if (t?.kind !== "T" || t.tsType !== TimestampType.NTP_UTC) return undefined;
    if (extension?.kind !== "EXT" || extension.extType !== ExtensionType.PROOF_OF_POSSESSION) return undefined;
    if (v?.kind !== "V" || v.authAlg !== MacAlg.HMAC_SHA_256_256 || v.data.length !== MAC_LENGTH) return undefined;
    const claim = decodePossessionClaim(extension.data);
    if (claim.version !== PROTOCOL_VERSION) return undefined;
    return { message, t: t.value, claim: extension.data, spis: claim.spis, transcript: claim.transcript };
  } catch (error) {
    if (error instanceof WatchwordError) return undefined;
    throw error;
  }
}

function bigEndian(value: number, width: number): Uint8Array {
  const out = new Uint8Array(width);
  for (let i = 0; i < width; i++) out[width - 1 - i] = Math.floor(value / 256 ** i);
  return out;
}

function prefixed(width: number, octets: Uint8Array): Uint8Array {
  return concatBytes(bigEndian(octets.length, width), octets);
}

/** A T as one number; a T that is not 8 octets of NTP counts as 0 (docs/protocol.md §6). */
function ntp64(t: Uint8Array): bigint {
  return t.length === 8 ? new DataView(t.buffer, t.byteOffset).getBigUint64(0) : 0n;
}

function bigintOctets(value: bigint): Uint8Array {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, value);
  return out;
}
