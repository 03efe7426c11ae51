/** Rekey messages, heartbeats and the end of a group, as the key server makes them (docs/protocol.md §16). */
import { concatBytes, WatchwordError, wipe } from "../bytes/index.js";
import type { CryptoProvider, Signer } from "../crypto/index.js";
import type { PreparedRekey, RekeyPart } from "../gkma/index.js";
import {
  type CredentialData,
  DataType,
  ExtensionType,
  encodeCredential,
  encodeGkma,
  encodeKeyData,
  encodeKeyIds,
  encodeMessage,
  encodeSync,
  entryOf,
  type GkmaData,
  GkmaFlag,
  type KeyId,
  KeyIdType,
  MacAlg,
  type Payload,
  PayloadType,
  type SyncData,
  type SyncEntry,
  sealKeyData,
  type Timestamp,
  wipeMessageKeys,
} from "../mikey/index.js";
import { dataKeyData, extension } from "./group-gsa.js";
import {
  type DataKey,
  type GroupConstants,
  type GroupKek,
  groupHeader,
  groupMessageKeys,
  publicKeyId,
  SIGNATURE_OCTETS,
  sequenceTimestamp,
  signatureHead,
  signxOf,
  verificationKeyOf,
} from "./group-keys.js";
import { GROUP_LIMITS, type GroupPolicies, kekEncryptionOf, macAlgOf, type RekeyPolicy } from "./group-policy.js";
import { encodeGroupPolicies, gkmaNumber, signxAlgOf } from "./group-policy-params.js";
import { bigEndian } from "./labels.js";

/** What every message of this kind needs. */
export interface RekeySealing {
  readonly constants: GroupConstants;
  /** The policy in force before the message. */
  readonly rekey: RekeyPolicy;
  /** The KEK in force before the message. */
  readonly kek: GroupKek;
  /** Absent exactly in groups without signatures. Its key is the verification key of the policy. */
  readonly signer?: Signer;
}

/** A rekey message. */
export interface RekeyContent extends RekeySealing {
  /** New, and above the last one. */
  readonly sequence: number;
  /** A prepared change of the tree, of version `sequence`; without it the KEK stays. */
  readonly change?: {
    readonly prepared: Pick<PreparedRekey, "version" | "previous" | "groupKey" | "parts">;
    /** Senders switch at receipt. */
    readonly immediate: boolean;
    /** Seconds that the new KEK and node keys live. */
    readonly lifetime: number;
  };
  /** Keys of data SAs, each of another one. */
  readonly dataKeys: readonly DataKey[];
  /** SSRCs that end or begin. */
  readonly streams?: readonly SyncEntry[];
  /** Policies that change. */
  readonly policies?: GroupPolicies;
  readonly credential?: CredentialData;
}

/**
 * Makes the packets of one sequence number, each of at most 1200 octets, signed and complete in itself (docs/protocol.md §16). Make them durable before
 * the first is sent, and send nothing but these octets for this sequence.
 * @param pause waits for others' turns, once for some dozens of packets: a rekey of a large group has thousands
 * @throws WatchwordError `gsa.rekey-content` for what does not fit together or into packets; `gsa.group-policy`; `gkma.part-size`
 */
export async function sealRekey(
  crypto: CryptoProvider,
  content: RekeyContent,
  pause: () => Promise<void> = nothing,
): Promise<Uint8Array[]> {
  const { change, sequence, kek, rekey, constants } = content;
  if (change !== undefined && (change.prepared.version !== sequence || change.prepared.previous !== kek.spi))
    throw contentError("the change of the tree is of another sequence or KEK");
  const encrAlg = kekEncryptionOf(rekey);
  const keys = groupMessageKeys(crypto, constants, change?.prepared.groupKey ?? kek.key, encrAlg, MacAlg.NULL);
  const plaintext = encodeKeyData(content.dataKeys.map(dataKeyData));
  const context = { csbId: constants.csbId, timestamp: sequenceTimestamp(sequence) };
  const kemac: Payload = {
    kind: "KEMAC",
    encrAlg,
    encrData: sealKeyData(crypto, encrAlg, keys, context, plaintext),
    macAlg: MacAlg.NULL,
    mac: new Uint8Array(0),
  };
  wipe(plaintext);
  wipeMessageKeys(keys);
  const sync: SyncData = { end: false, restart: false, entries: content.streams ?? [] };
  const common: Payload[] = [
    ...(sync.entries.length === 0 ? [] : [extension(ExtensionType.SYNC, encodeSync(sync))]),
    ...(content.policies === undefined ? [] : encodeGroupPolicies(content.policies)),
    ...(content.credential === undefined ? [] : [extension(ExtensionType.CREDENTIAL, encodeCredential(content.credential))]),
    kemac,
  ];
  const sealer = new RekeySealer(crypto, content, sequence, content.dataKeys);
  try {
    const message = sealer.encode(common);
    if (change === undefined) return [await sealer.seal(message)];
    const room = GROUP_LIMITS.rekeyPacketOctets - message.length - EXTENSION_HEAD - GKMA_HEAD;
    if (room < 0) throw contentError("the message does not fit a packet");
    const parts: RekeyPart[] = [];
    for (const part of change.prepared.parts(room)) if (parts.push(part) % STRETCH === 0) await pause();
    if (parts.length > 0xffff) throw contentError(`${parts.length} packets`);
    const packets: Uint8Array[] = [];
    for (const [index, part] of parts.entries()) {
      const head = encodeGkma(gkmaHead(content, part, index, parts.length));
      if (packets.push(await sealer.seal(sealer.withGkma(message, head, part.edges))) % STRETCH === 0) await pause();
    }
    return packets;
  } finally {
    sealer.wipe();
  }
}

/** Packets that are made at a stretch. */
const STRETCH = 64;

async function nothing(): Promise<void> {}

/** A heartbeat (docs/protocol.md §16.1): not durable, of the sequence of the last message. @param time the clock, NTP, 8 octets */
export function sealHeartbeat(
  crypto: CryptoProvider,
  sealing: RekeySealing & { readonly sequence: number },
  time: Uint8Array,
): Promise<Uint8Array> {
  return sealSync(crypto, sealing, { end: false, restart: false, time, entries: [] });
}

/**
 * The end of a group (docs/protocol.md §16.1), of a new sequence; durable before it is sent, as a rekey message is.
 * @param restart members register again
 */
export function sealEnd(
  crypto: CryptoProvider,
  sealing: RekeySealing & { readonly sequence: number },
  time: Uint8Array,
  restart: boolean,
): Promise<Uint8Array> {
  return sealSync(crypto, sealing, { end: true, restart, time, entries: [] });
}

async function sealSync(
  crypto: CryptoProvider,
  sealing: RekeySealing & { readonly sequence: number },
  sync: SyncData,
): Promise<Uint8Array> {
  const sealer = new RekeySealer(crypto, sealing, sealing.sequence, []);
  try {
    return await sealer.seal(sealer.encode([extension(ExtensionType.SYNC, encodeSync(sync))]));
  } finally {
    sealer.wipe();
  }
}

/** Puts the payloads of one sequence into messages, and seals them. */
class RekeySealer {
  readonly #crypto: CryptoProvider;
  readonly #constants: GroupConstants;
  readonly #signer: Signer | undefined;
  readonly #signx: ReturnType<typeof signxOf>;
  readonly #authAlg: number;
  readonly #macOctets: number;
  readonly #timestamp: Timestamp;
  readonly #keyIds: Uint8Array;
  readonly #vKey: Uint8Array;

  constructor(crypto: CryptoProvider, sealing: RekeySealing, sequence: number, dataKeys: readonly DataKey[]) {
    const { constants, rekey, kek, signer } = sealing;
    this.#crypto = crypto;
    this.#constants = constants;
    this.#signer = signer;
    this.#signx = signer === undefined ? undefined : signxOf(signer.publicKey);
    if (signxAlgOf(rekey.signature) !== (this.#signx?.alg ?? 0)) throw contentError("the signer is not the one of the policy");
    this.#authAlg = macAlgOf(rekey);
    this.#macOctets = entryOf(MacAlg, this.#authAlg)?.octets ?? 0;
    this.#timestamp = sequenceTimestamp(sequence);
    const ids: KeyId[] = [{ type: KeyIdType.KEK_SPI, id: bigEndian(kek.spi, 4) }];
    for (const { mki, dataSa } of dataKeys) ids.push({ type: KeyIdType.MKI, id: mkiOfDataSa(mki, dataSa) });
    this.#keyIds = encodeKeyIds(ids);
    this.#vKey = verificationKeyOf(crypto, constants.group, kek);
  }

  /** Header, T and Key ID, the payloads, then V and SIGNX without their values. */
  encode(content: readonly Payload[]): Uint8Array {
    const payloads: Payload[] = [
      { kind: "T", ...this.#timestamp },
      extension(ExtensionType.KEY_ID, this.#keyIds),
      ...content,
      { kind: "V", authAlg: this.#authAlg, data: new Uint8Array(this.#macOctets) },
    ];
    if (this.#signer !== undefined && this.#signx !== undefined) {
      const keyId = publicKeyId(this.#crypto, this.#signer.publicKey);
      payloads.push({ kind: "SIGNX", alg: this.#signx.alg, keyId, signature: new Uint8Array(SIGNATURE_OCTETS) });
    }
    return encodeMessage({ header: groupHeader(this.#constants, DataType.REKEY), payloads });
  }

  /** An encoded message with a GKMA extension behind Key ID: what differs from packet to packet, put into what does not. */
  withGkma(message: Uint8Array, head: Uint8Array, edges: Uint8Array): Uint8Array {
    const prefix = KEY_ID_NEXT + EXTENSION_HEAD + this.#keyIds.length;
    const data = prefix + EXTENSION_HEAD;
    const length = head.length + edges.length;
    const octets = new Uint8Array(data + length + message.length - prefix);
    octets.set(message);
    octets.copyWithin(data + length, prefix, message.length);
    octets[prefix] = message[KEY_ID_NEXT] as number;
    octets[prefix + 1] = ExtensionType.GKMA;
    octets[prefix + 2] = length >> 8;
    octets[prefix + 3] = length;
    octets.set(head, data);
    octets.set(edges, data + head.length);
    octets[KEY_ID_NEXT] = PayloadType.EXT;
    return octets;
  }

  /** Fills in the values of V and SIGNX. */
  async seal(octets: Uint8Array): Promise<Uint8Array> {
    if (octets.length > GROUP_LIMITS.rekeyPacketOctets) throw contentError(`a packet of ${octets.length} octets`);
    // From the V value to the end: the value, then all of SIGNX.
    const v = octets.length - (this.#signer === undefined ? 0 : SIGNX_HEAD + SIGNATURE_OCTETS) - this.#macOctets;
    const tag = this.#crypto.hmacOnce("sha256", this.#vKey, octets.subarray(0, v));
    for (let i = 0; i < this.#macOctets; i++) octets[v + i] = tag[i] as number;
    if (this.#signer !== undefined && this.#signx !== undefined) {
      const covered = octets.subarray(0, octets.length - SIGNATURE_OCTETS);
      const signed = concatBytes(signatureHead(this.#constants.group), covered);
      octets.set(await this.#signer.sign(this.#signx.scheme, signed), covered.length);
    }
    return octets;
  }

  wipe(): void {
    wipe(this.#vKey);
  }
}

/** The id of a data key in Key ID: MKI, then the number of the data SA (docs/protocol.md §16.1). */
function mkiOfDataSa(mki: number, dataSa: number): Uint8Array {
  const id = new Uint8Array(5);
  new DataView(id.buffer).setUint32(0, mki);
  id[4] = dataSa;
  return id;
}

/** Octets of SIGNX before the signature: next payload, alg, key-id, length. */
const SIGNX_HEAD = 12;

/** Octets of a General Extension before its data: next payload, type, length. */
const EXTENSION_HEAD = 4;

/** Where Key ID says what follows it: behind HDR without crypto sessions and T. */
const KEY_ID_NEXT = 16;

/** The GKMA extension of a packet, without its edges. */
function gkmaHead(
  { rekey, change }: Pick<RekeyContent, "rekey" | "change">,
  part: Omit<RekeyPart, "version" | "previous" | "edges">,
  index: number,
  count: number,
): GkmaData {
  return {
    algorithm: gkmaNumber(rekey.algorithm),
    version: rekey.algorithmVersion,
    degree: rekey.degree,
    flags: (change?.immediate === true ? GkmaFlag.IMMEDIATE : 0) | (rekey.keyLength === 32 ? GkmaFlag.KEYS_OF_256_BITS : 0),
    largestId: part.largestId,
    index,
    count,
    firstLeaf: part.first,
    lastLeaf: part.last,
    lifetime: change?.lifetime ?? 0,
    refreshed: part.refreshed,
    edges: NOTHING,
  };
}

const NOTHING = new Uint8Array(0);

/** Octets of the GKMA extension's data without ids and edges (docs/protocol.md §16.5). */
const GKMA_HEAD = 26;

function contentError(detail: string): WatchwordError {
  return new WatchwordError("gsa.rekey-content", `rekey message: ${detail}`);
}
