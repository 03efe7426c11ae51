/** Reports of members (docs/protocol.md §18). */
import { equalBytes, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import {
  checkGrammar,
  computeMac,
  DataType,
  decodeKeyIds,
  decodeMessage,
  decodeSync,
  EncrAlg,
  ExtensionType,
  encodeKeyIds,
  encodeSync,
  encodeWithV,
  type Grammar,
  KeyIdType,
  MacAlg,
  payloadsOf,
  type SyncEntry,
  TimestampType,
  wipeMessageKeys,
} from "../mikey/index.js";
import { extension, formError, onlyExtension } from "./group-gsa.js";
import {
  type GroupConstants,
  groupHeader,
  groupMessageKeys,
  isGroupHeader,
  octetsNumber,
  sequenceTimestamp,
} from "./group-keys.js";
import { GROUP_LIMITS } from "./group-policy.js";
import { bigEndian } from "./labels.js";

/** What a member reports. */
export interface Report {
  readonly group: Uint8Array;
  readonly csbId: number;
  /** 1 in the first report of a registration, then greater each time. */
  readonly counter: number;
  readonly member: number;
  /** SPI of the KEK that the member holds. */
  readonly kekSpi: number | undefined;
  /** The member's SSRCs: running, or gone. */
  readonly streams: readonly SyncEntry[];
}

/** A report as it was decoded. Nothing of it is to be believed before `verifyReport`. */
export interface ReceivedReport extends Report {
  readonly octets: Uint8Array;
}

const GRAMMAR: Grammar = { counts: { T: [1, 1], EXT: [2, 2], V: [1, 1] }, last: "V" };
const MAC_ALG = MacAlg.HMAC_SHA_256_256;

/** Makes a report. @param upKey K_up of the member's registration */
export function sealReport(
  crypto: CryptoProvider,
  upKey: Uint8Array,
  constants: GroupConstants,
  report: Omit<Report, "group" | "csbId">,
): Uint8Array {
  const { tsType, value } = sequenceTimestamp(report.counter);
  const keyIds = [
    { type: KeyIdType.GROUP, id: constants.group },
    { type: KeyIdType.MEMBER, id: bigEndian(report.member, 4) },
    ...(report.kekSpi === undefined ? [] : [{ type: KeyIdType.KEK_SPI, id: bigEndian(report.kekSpi, 4) }]),
  ];
  const payloads = [
    { kind: "T", tsType, value } as const,
    extension(ExtensionType.KEY_ID, encodeKeyIds(keyIds)),
    extension(ExtensionType.SYNC, encodeSync({ end: false, restart: false, entries: report.streams })),
  ];
  const keys = groupMessageKeys(crypto, constants, upKey, EncrAlg.NULL, MAC_ALG);
  const octets = encodeWithV(crypto, groupHeader(constants, DataType.REPORT), payloads, MAC_ALG, keys, []);
  wipeMessageKeys(keys);
  return octets;
}

/**
 * Decodes a report: group and member number say whose it claims to be.
 * @throws CodecError; MikeyError `mikey.grammar`; WatchwordError `gsa.group-message`
 */
export function decodeReport(octets: Uint8Array): ReceivedReport {
  const message = decodeMessage(octets);
  if (!isGroupHeader(message.header, DataType.REPORT)) throw formError("no report");
  checkGrammar(message, GRAMMAR);
  const [t] = payloadsOf(message, "T");
  if (t?.tsType !== TimestampType.COUNTER) throw formError("T is no COUNTER");
  const extensions = payloadsOf(message, "EXT");
  const [group, member, kek, ...more] = decodeKeyIds(onlyExtension(extensions, ExtensionType.KEY_ID));
  const named =
    group?.type === KeyIdType.GROUP &&
    member?.type === KeyIdType.MEMBER &&
    member.id.length === 4 &&
    (kek === undefined || (kek.type === KeyIdType.KEK_SPI && kek.id.length === 4)) &&
    more.length === 0;
  if (!named) throw formError("the key ids are not those of a report");
  const sync = decodeSync(onlyExtension(extensions, ExtensionType.SYNC));
  if (sync.end || sync.time !== undefined || sync.entries.length > GROUP_LIMITS.syncEntries)
    throw formError("sync is not that of a report");
  return {
    octets,
    group: group.id,
    csbId: message.header.csbId,
    counter: octetsNumber(t.value),
    member: octetsNumber(member.id),
    kekSpi: kek === undefined ? undefined : octetsNumber(kek.id),
    streams: sync.entries,
  };
}

/**
 * Whether a report is the member's whose K_up is given. That its counter is above the last one and that its SSRCs are the member's is the caller's
 * to check (docs/protocol.md §18).
 */
export function verifyReport(
  crypto: CryptoProvider,
  upKey: Uint8Array,
  constants: GroupConstants,
  report: ReceivedReport,
): boolean {
  if (!equalBytes(report.group, constants.group) || report.csbId !== constants.csbId) return false;
  const keys = groupMessageKeys(crypto, constants, upKey, EncrAlg.NULL, MAC_ALG);
  const { octets } = report;
  const mac = computeMac(crypto, MAC_ALG, keys, octets.subarray(0, octets.length - V_OCTETS));
  wipeMessageKeys(keys);
  const good = equalBytes(mac, octets.subarray(octets.length - V_OCTETS));
  wipe(mac);
  return good;
}

const V_OCTETS = 32;
