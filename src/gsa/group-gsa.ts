/** The GSA message (docs/protocol.md §15): everything that a member needs of a group, under its registration SA. */
import { equalBytes, WatchwordError, wipe } from "../bytes/index.js";
import type { CryptoProvider, PublicKey } from "../crypto/index.js";
import { GKMA_VERSION, type NodeKey, type PathDownload } from "../gkma/index.js";
import {
  type CredentialData,
  checkGrammar,
  DataType,
  type DecodedMessage,
  decodeCredential,
  decodeMessage,
  decodeNtp,
  decodeSync,
  EncrAlg,
  ExtensionType,
  encodeCredential,
  encodeSync,
  encodeWithKemac,
  type GeneralExtensionPayload,
  type Grammar,
  type Identity,
  type KeyData,
  KeyDataType,
  MacAlg,
  type Payload,
  payloadsOf,
  readKemac,
  requiredPayload,
  type SyncEntry,
  sameIdentity,
  TimestampType,
  verifyKemac,
  wipeMessageKeys,
} from "../mikey/index.js";
import { suiteOf } from "../srtp/index.js";
import { verifyCredential } from "./group-credential.js";
import {
  type DataKey,
  type GroupConstants,
  type GroupKek,
  groupHeader,
  groupMessageKeys,
  isGroupHeader,
  octetsNumber,
  sequenceTimestamp,
} from "./group-keys.js";
import {
  belowMinimum,
  type DataSaPolicy,
  GROUP_LIMITS,
  type GroupPolicies,
  type GroupPolicy,
  type MinimumGroupPolicy,
  type RekeyPolicy,
} from "./group-policy.js";
import { decodeGroupPolicies, encodeGroupPolicies } from "./group-policy-params.js";
import { bigEndian } from "./labels.js";
import { ntp64, ntpMilliseconds } from "./proof.js";

/** What a GSA message says. */
export interface GsaContent {
  readonly constants: GroupConstants;
  /** Sequence of the newest message of the group. */
  readonly sequence: number;
  readonly gcks: Identity;
  readonly member: Identity;
  readonly policies: GroupPolicies & { readonly group: GroupPolicy };
  /** The key server's clock, NTP, 8 octets. */
  readonly time: Uint8Array;
  /** Senders with the ROC and SEQ of their last report, and their identity where members see it. */
  readonly senders: readonly SyncEntry[];
  readonly credential?: CredentialData;
  /** The owner's certificate first. */
  readonly certificates?: readonly Uint8Array[];
  /** Place and keys in the tree; present exactly with a rekey SA. Its policy's `tree` follows from it. */
  readonly path?: PathDownload;
  readonly dataKeys: readonly DataKey[];
}

/** A GSA message as a member has verified it. */
export interface OpenedGsa extends GsaContent {
  /** The KEK in force; undefined where the next rekey message brings the first. */
  readonly kek: GroupKek | undefined;
}

/** K_down has 256 bits (docs/protocol.md §15.1). */
const ENCR_ALG = EncrAlg.AES_KWP_256;
const MAC_ALG = MacAlg.HMAC_SHA_256_256;
const MOST_CERTIFICATES = 4;

const GRAMMAR: Grammar = {
  counts: { T: [1, 1], RAND: [1, 1], ID: [2, 2], SP: [1, 255], EXT: [1, 2], CERT: [0, MOST_CERTIFICATES], KEMAC: [1, 1] },
  last: "KEMAC",
};

/**
 * Makes a GSA message.
 * @param downKey K_down of the member's registration
 * @throws WatchwordError `gsa.group-policy`, `gsa.group-message` for content that a member would refuse
 */
export function sealGsa(crypto: CryptoProvider, downKey: Uint8Array, content: GsaContent): Uint8Array {
  const { constants, path, policies, credential } = content;
  checkKeys(policies, path, content.dataKeys);
  const rekey: RekeyPolicy | undefined =
    policies.rekey === undefined || path === undefined
      ? undefined
      : { ...policies.rekey, tree: { largestId: path.largestId, leaf: path.leaf } };
  const { tsType, value } = sequenceTimestamp(content.sequence);
  const payloads: Payload[] = [
    { kind: "T", tsType, value },
    { kind: "RAND", rand: constants.rand },
    { kind: "ID", ...content.gcks },
    { kind: "ID", ...content.member },
    ...encodeGroupPolicies({ ...policies, ...(rekey === undefined ? {} : { rekey }) }),
    extension(ExtensionType.SYNC, encodeSync({ end: false, restart: false, time: content.time, entries: content.senders })),
    ...(credential === undefined ? [] : [extension(ExtensionType.CREDENTIAL, encodeCredential(credential))]),
    ...(content.certificates ?? []).map((data): Payload => ({ kind: "CERT", certType: 0, data })),
  ];
  const keys = groupMessageKeys(crypto, constants, downKey, ENCR_ALG, MAC_ALG);
  const protection = { encrAlg: ENCR_ALG, macAlg: MAC_ALG, keys };
  const keyData = [...pathKeyData(path), ...content.dataKeys.map(dataKeyData)];
  const header = groupHeader(constants, DataType.GSA);
  const octets = encodeWithKemac(crypto, header, payloads, { tsType, value }, keyData, protection, {});
  wipeMessageKeys(keys);
  return octets;
}

/** What a member knows before it opens a GSA message. */
export interface GsaExpectation {
  readonly gcks: Identity;
  readonly member: Identity;
  /** The groups that it asked for. */
  readonly groups: readonly Uint8Array[];
  /** Of this group, where the member is in it already: the constants stay, the sequence does not go back. */
  readonly known?: {
    readonly constants: GroupConstants;
    readonly sequence: number;
    /** The key server's time in the GSA before, NTP: the next one is later, or it is the same again. */
    readonly time?: Uint8Array;
  };
  /** How far the key server's time may be from `now`, milliseconds; for where no exchange says that the message is fresh. */
  readonly skewMs?: number;
  readonly minimum?: MinimumGroupPolicy;
  /** The owner's key for a group, where the member knows one: a credential that is there is then checked. */
  readonly ownerKey?: (group: Uint8Array, certificates: readonly Uint8Array[]) => Promise<PublicKey | undefined>;
  /** Milliseconds since 1970, for the validity of a credential. */
  readonly now: number;
}

/**
 * Opens a GSA message in the order of docs/protocol.md §15.6. Nothing of it is to be used where this throws.
 * @throws CodecError; MikeyError `mikey.grammar`, `mikey.authentication`; WatchwordError `gsa.group-message`, `gsa.group-mismatch`,
 *   `gsa.group-policy`, `gsa.sequence`, `gsa.credential`, `gsa.minimum`
 */
export async function openGsa(
  crypto: CryptoProvider,
  downKey: Uint8Array,
  octets: Uint8Array,
  expected: GsaExpectation,
): Promise<OpenedGsa> {
  const message = decodeMessage(octets);
  if (!isGroupHeader(message.header, DataType.GSA)) throw formError("no GSA message");
  checkGrammar(message, GRAMMAR);
  const parts = partsOf(message);
  checkExpected(parts, expected);
  const keys = groupMessageKeys(crypto, parts.constants, downKey, ENCR_ALG, MAC_ALG);
  try {
    verifyKemac(crypto, message, keys);
    if (parts.sequence < (expected.known?.sequence ?? 0))
      throw new WatchwordError("gsa.sequence", "a GSA message that is older than what the member has");
    checkTime(parts.time, expected);
    const keyData = readKemac(crypto, message, sequenceTimestamp(parts.sequence), keys);
    const opened = { ...parts, ...keysOf(parts.policies, keyData) };
    await checkCredential(crypto, opened, expected);
    const below = belowMinimum(opened.policies, expected.minimum ?? {});
    if (below !== undefined) throw new WatchwordError("gsa.minimum", `the group is below the member's minimum: ${below}`);
    return opened;
  } finally {
    wipeMessageKeys(keys);
  }
}

type Parts = Omit<GsaContent, "path" | "dataKeys">;

function partsOf(message: DecodedMessage): Parts {
  const [t] = payloadsOf(message, "T");
  const [rand] = payloadsOf(message, "RAND");
  const [gcks, member] = payloadsOf(message, "ID");
  const kemac = requiredPayload(message, "KEMAC");
  if (t === undefined || rand === undefined || gcks === undefined || member === undefined) throw formError("a payload is missing");
  if (t.tsType !== TimestampType.COUNTER) throw formError("T is no COUNTER");
  if (kemac.encrAlg !== ENCR_ALG || kemac.macAlg !== MAC_ALG) throw formError("the KEMAC has other algorithms");
  const policies = decodeGroupPolicies(payloadsOf(message, "SP"));
  const { group } = policies;
  if (group?.member === undefined) throw formError("the policy of the group, or of the member, is missing");
  const extensions = payloadsOf(message, "EXT");
  const sync = decodeSync(onlyExtension(extensions, ExtensionType.SYNC));
  if (sync.end || sync.time === undefined) throw formError("the time is missing");
  if (sync.entries.length > GROUP_LIMITS.syncEntries) throw formError("too many senders");
  const credential = extensions.find(({ extType }) => extType === ExtensionType.CREDENTIAL);
  if (extensions.length > (credential === undefined ? 1 : 2)) throw formError("an extension does not belong here");
  const certificates = payloadsOf(message, "CERT").map(({ data }) => data);
  // What a member keeps for as long as it is one are copies, which do not hold the message.
  return {
    constants: { group: group.group, csbId: message.header.csbId, rand: rand.rand.slice() },
    sequence: octetsNumber(t.value),
    gcks: { idType: gcks.idType, data: gcks.data.slice() },
    member: { idType: member.idType, data: member.data.slice() },
    policies: { ...policies, group },
    time: sync.time,
    senders: sync.entries,
    ...(credential === undefined ? {} : { credential: decodeCredential(credential.data) }),
    ...(certificates.length === 0 ? {} : { certificates }),
  };
}

/** §15.6 step 2. */
function checkExpected(parts: Parts, expected: GsaExpectation): void {
  const { constants } = parts;
  const known = expected.known?.constants;
  if (constants.rand.length !== 32) throw formError("RAND has another length");
  const mine =
    sameIdentity(parts.gcks, expected.gcks) &&
    sameIdentity(parts.member, expected.member) &&
    expected.groups.some((group) => equalBytes(group, constants.group));
  const same =
    known === undefined ||
    (equalBytes(known.group, constants.group) && known.csbId === constants.csbId && equalBytes(known.rand, constants.rand));
  if (!mine || !same) throw new WatchwordError("gsa.group-mismatch", "a GSA message for another group, member or key server");
}

/** Under one registration every GSA is later than the one before; what was recorded brings nobody back (docs/protocol.md §15.6). */
function checkTime(time: Uint8Array, { known, skewMs, now }: GsaExpectation): void {
  const again = known?.time !== undefined && ntpMilliseconds(ntp64(time), ntp64(known.time)) <= 0;
  const stale = skewMs !== undefined && Math.abs(decodeNtp(time, now) - now) > skewMs;
  if (again || stale) throw new WatchwordError("gsa.sequence", "a GSA message of another time");
}

async function checkCredential(crypto: CryptoProvider, gsa: OpenedGsa, expected: GsaExpectation): Promise<void> {
  const { credential, constants, gcks, policies } = gsa;
  const owner = await expected.ownerKey?.(constants.group, gsa.certificates ?? []);
  if (owner === undefined && expected.minimum?.credential !== true) return;
  const good =
    owner !== undefined &&
    credential !== undefined &&
    (await verifyCredential(crypto, owner, credential, {
      group: constants.group,
      identity: gcks.data,
      key: policies.rekey?.verificationKey,
      now: expected.now,
    }));
  if (!good) throw new WatchwordError("gsa.credential", "the key server has no valid credential of the group's owner");
}

/** Octets of the SPI of a node key: node id, version. */
const NODE_SPI = 8;
const ROOT = 0;

/** The KEK first, then the leaf and the nodes above it (docs/protocol.md §15.1). */
function pathKeyData(path: PathDownload | undefined): KeyData[] {
  if (path === undefined) return [];
  const tgk = (key: Uint8Array, spi: Uint8Array): KeyData => ({ type: KeyDataType.TGK, key, validity: { kv: "spi", spi } });
  const nodeSpi = (node: number): Uint8Array => {
    const spi = new Uint8Array(NODE_SPI);
    spi.set(bigEndian(node, 4));
    spi.set(bigEndian(path.version, 4), 4);
    return spi;
  };
  const root = path.path.find(({ node }) => node === ROOT);
  return [
    ...(root === undefined ? [] : [tgk(root.key, bigEndian(path.version, 4))]),
    tgk(path.leafKey, nodeSpi(path.leaf)),
    ...path.path.filter(({ node }) => node !== ROOT).map(({ node, key }) => tgk(key, nodeSpi(node))),
  ];
}

/** A data key as key data of a KEMAC; its SPI is the MKI. */
export function dataKeyData({ mki, key, salt }: DataKey): KeyData {
  const validity = { kv: "spi", spi: bigEndian(mki, 4) } as const;
  return salt === undefined ? { type: KeyDataType.GTGK, key, validity } : { type: KeyDataType.TEK_SALT, key, salt, validity };
}

function keysOf(policies: GroupPolicies, keyData: readonly KeyData[]): Pick<OpenedGsa, "kek" | "path" | "dataKeys"> {
  if (keyData.length > GROUP_LIMITS.keysInGsa) throw formError("too many keys");
  let kek: GroupKek | undefined;
  const nodes: (NodeKey & { readonly version: number })[] = [];
  const dataKeys: DataKey[] = [];
  keyData.forEach((data, index) => {
    const spi = data.validity.kv === "spi" ? data.validity.spi : new Uint8Array(0);
    if (data.type === KeyDataType.TGK && spi.length === 4 && index === 0) kek = { spi: octetsNumber(spi), key: data.key };
    else if (data.type === KeyDataType.TGK && spi.length === NODE_SPI)
      nodes.push({ node: octetsNumber(spi), version: octetsNumber(spi.subarray(4)), key: data.key });
    else dataKeys.push(dataKeyOf(data, (mki) => policies.data.find(({ mkis }) => mkis.includes(mki))?.number));
  });
  const path = pathOf(policies.rekey, kek, nodes);
  checkKeys(policies, path, dataKeys);
  return { kek, dataKeys, ...(path === undefined ? {} : { path }) };
}

/** A data key. @param dataSaOf the number of the data SA to which an MKI belongs. @throws WatchwordError `gsa.group-message` */
export function dataKeyOf({ type, key, salt, validity }: KeyData, dataSaOf: (mki: number) => number | undefined): DataKey {
  const spi = validity.kv === "spi" ? validity.spi : new Uint8Array(0);
  if ((type !== KeyDataType.TEK_SALT && type !== KeyDataType.GTGK) || spi.length !== 4) throw formError("a key of another type");
  const mki = octetsNumber(spi);
  const dataSa = dataSaOf(mki);
  if (dataSa === undefined) throw formError("a key of no data SA");
  return { dataSa, mki, key, ...(salt === undefined ? {} : { salt }) };
}

function pathOf(
  rekey: RekeyPolicy | undefined,
  kek: GroupKek | undefined,
  nodes: readonly (NodeKey & { readonly version: number })[],
): PathDownload | undefined {
  if (rekey === undefined) {
    if (kek !== undefined || nodes.length > 0) throw formError("keys of a tree without a rekey SA");
    return undefined;
  }
  const [leaf, ...above] = nodes;
  const { tree } = rekey;
  if (leaf === undefined || tree === undefined || leaf.node !== tree.leaf) throw formError("the leaf's key is missing");
  const version = kek?.spi ?? leaf.version;
  if (nodes.length > GROUP_LIMITS.nodeKeys || nodes.some((node) => node.version !== version))
    throw formError("node keys of another version");
  return {
    algorithm: rekey.algorithm,
    degree: rekey.degree,
    keyLength: rekey.keyLength,
    largestId: tree.largestId,
    version,
    leaf: leaf.node,
    leafKey: leaf.key,
    path: [...above.map(({ node, key }) => ({ node, key })), ...(kek === undefined ? [] : [{ node: ROOT, key: kek.key }])],
  };
}

/** Keys, policies and tree fit each other (docs/protocol.md §15.1). @throws WatchwordError `gsa.group-message` */
function checkKeys(policies: GroupPolicies, path: PathDownload | undefined, dataKeys: readonly DataKey[]): void {
  const { rekey, data } = policies;
  if ((rekey === undefined) !== (path === undefined)) throw formError("a rekey SA and its keys go together");
  if (rekey !== undefined && path !== undefined) {
    if (path.algorithm !== rekey.algorithm || path.degree !== rekey.degree || path.keyLength !== rekey.keyLength)
      throw formError("the tree is another one than the policy's");
    if (rekey.algorithmVersion !== GKMA_VERSION) throw formError(`version ${rekey.algorithmVersion} of the GKMA is not supported`);
    const keys = [path.leafKey, ...path.path.map(({ key }) => key)];
    if (keys.some((key) => key.length !== rekey.keyLength)) throw formError("a node key of another length");
    // Without signatures V is the only authentication, and its key is the KEK's (§15.2).
    if (rekey.signature === "none" && path.path.length === 0) throw formError("no KEK in a group without signatures");
  }
  const mkis = data.flatMap((policy) => policy.mkis);
  if (mkis.length !== dataKeys.length) throw formError("an MKI without key, or a key without MKI");
  for (const key of dataKeys) {
    const policy = data.find(({ number }) => number === key.dataSa);
    if (policy === undefined || !policy.mkis.includes(key.mki)) throw formError("a key of no data SA");
    checkDataKey(policy, key);
  }
  if (new Set(dataKeys.map(({ mki }) => mki)).size < dataKeys.length) throw formError("two keys with one MKI");
}

/** A data key has the lengths that its data SA needs. @throws WatchwordError `gsa.group-message` */
export function checkDataKey({ arrangement, srtp }: DataSaPolicy, { key, salt }: DataKey): void {
  const { keyLength, saltLength } = suiteOf(srtp.suite);
  const fits =
    arrangement === "shared"
      ? key.length === keyLength && salt?.length === saltLength
      : (key.length === 16 || key.length === 32) && key.length >= keyLength && salt === undefined;
  if (!fits) throw formError("a data key of another length or type");
}

/** The data of the one extension of a type. @throws WatchwordError `gsa.group-message` */
export function onlyExtension(extensions: readonly GeneralExtensionPayload[], extType: number): Uint8Array {
  const [only, ...more] = extensions.filter((candidate) => candidate.extType === extType);
  if (only === undefined || more.length > 0) throw formError(`extension ${extType} is missing, or there twice`);
  return only.data;
}

export function extension(extType: number, data: Uint8Array): GeneralExtensionPayload {
  return { kind: "EXT", extType, data };
}

export function formError(detail: string): WatchwordError {
  return new WatchwordError("gsa.group-message", `message of a group: ${detail}`);
}

/** Overwrites the keys of an opened GSA. */
export function wipeGsa({ path, dataKeys }: GsaContent): void {
  wipe(path?.leafKey, ...(path?.path ?? []).map(({ key }) => key));
  for (const { key, salt } of dataKeys) wipe(key, salt);
}
