/** The data of the General Extensions of docs/protocol.md. */
import { type Codec, list, octets, prefixedOctets, type Reader, restOctets, struct, u8, u16, u32, Writer } from "../bytes/index.js";
import { type ChainOptions, chainReader } from "./codec.js";

/** The version of docs/protocol.md that this code speaks. */
export const PROTOCOL_VERSION = 1;

/** What a member may do, or wants to: bits of the role in HELLO and of the group policy (docs/protocol.md §12.1). */
export const GroupRole = { SEND: 1, RECEIVE: 2 } as const;

/** HELLO extension (docs/protocol.md §4.2, §12.1). */
export interface Hello {
  readonly version: number;
  /** 16 octets. */
  readonly nonce: Uint8Array;
  /** Empty in two-party sessions. */
  readonly group: Uint8Array;
  /** `GroupRole` bits; present exactly where there is a group. */
  readonly role?: number;
}

const helloHead = struct({ version: u8, nonce: octets(16), group: prefixedOctets(1) });

const hello: Codec<Hello> = {
  read(reader, name) {
    const head = helloHead.read(reader, name);
    return head.group.length === 0 ? head : { ...head, role: reader.u8("role") };
  },
  write(writer, name, value) {
    helloHead.write(writer, name, value);
    const has = value.role !== undefined;
    if (has !== value.group.length > 0) throw writer.error("bytes.layout", "role", "a role goes with a group, and only with one");
    if (value.role !== undefined) writer.u8("role", value.role);
  },
};

/** Reads the data of a HELLO extension. @throws CodecError `bytes.truncated`, `bytes.trailing` */
export function decodeHello(data: Uint8Array, options: ChainOptions = {}): Hello {
  return readAll(hello, data, "hello", options);
}

/** Writes the data of a HELLO extension. @throws CodecError `bytes.length`, `bytes.range`, `bytes.layout` */
export function encodeHello(value: Hello): Uint8Array {
  return writeAll(hello, value, "hello");
}

/** PoP extension (docs/protocol.md §6.1). */
export interface PossessionClaim {
  readonly version: number;
  /** Ascending, without duplicates, at least one. */
  readonly spis: readonly Uint8Array[];
  /** SHA-256 of the exchange, 32 octets. */
  readonly transcript: Uint8Array;
}

const spi = prefixedOctets(1);
const transcript = octets(32);

const possession: Codec<PossessionClaim> = {
  read(reader) {
    const version = reader.u8("version");
    const count = reader.u8("n");
    const spis: Uint8Array[] = [];
    for (let i = 0; i < count; i++) {
      const next = spi.read(reader, `spis[${i}]`);
      const previous = spis.at(-1);
      if (previous !== undefined && compareOctets(previous, next) >= 0)
        throw reader.error("mikey.pop-order", `spis[${i}]`, "SPIs do not ascend");
      spis.push(next);
    }
    if (count === 0) throw reader.error("mikey.pop-order", "n", "no SPI");
    return { version, spis, transcript: transcript.read(reader, "transcript") };
  },
  write(writer, _name, claim) {
    writer.u8("version", claim.version);
    writer.u8("n", claim.spis.length);
    [...claim.spis].sort(compareOctets).forEach((value, i) => {
      spi.write(writer, `spis[${i}]`, value);
    });
    transcript.write(writer, "transcript", claim.transcript);
  },
};

/** Reads the data of a PoP extension. @throws CodecError `bytes.truncated`, `bytes.trailing`, `mikey.pop-order` */
export function decodePossessionClaim(data: Uint8Array, options: ChainOptions = {}): PossessionClaim {
  return readAll(possession, data, "pop", options);
}

/** Writes the data of a PoP extension; sorts the SPIs. @throws CodecError `bytes.length`, `bytes.range` */
export function encodePossessionClaim(claim: PossessionClaim): Uint8Array {
  return writeAll(possession, claim, "pop");
}

/** Octet-wise order; a prefix sorts first. */
export function compareOctets(a: Uint8Array, b: Uint8Array): number {
  const shorter = Math.min(a.length, b.length);
  for (let i = 0; i < shorter; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** Flags of the GKMA extension. */
export const GkmaFlag = {
  /** Senders switch at receipt. */
  IMMEDIATE: 1,
  /** Keys have 32 octets, wrapped 40, instead of 16 and 24. */
  KEYS_OF_256_BITS: 2,
} as const;

/** GKMA extension (docs/protocol.md §16.5). */
export interface GkmaData {
  /** See `GkmaAlgorithm`. */
  readonly algorithm: number;
  readonly version: number;
  readonly degree: number;
  /** `GkmaFlag` bits. */
  readonly flags: number;
  /** Largest node id of the tree after the message. */
  readonly largestId: number;
  /** This packet among `count`, from 0. */
  readonly index: number;
  readonly count: number;
  /** The packet is complete for the leaves from here ... */
  readonly firstLeaf: number;
  /** ... to here, inclusive, from left to right in the tree. */
  readonly lastLeaf: number;
  /** Seconds from receipt, of the keys that the message makes. */
  readonly lifetime: number;
  /** Nodes whose key every holder advances by the one-way function, 4 octets each. */
  readonly refreshed: Uint8Array;
  /** Child id (4) and wrapped key (24 or 40), one after the other. */
  readonly edges: Uint8Array;
}

/** Octets of a node id. */
const NODE_ID = 4;

const nodeIds: Codec<Uint8Array> = {
  read: (reader, name) => reader.bytes(name, NODE_ID * reader.u16(`${name}Count`)),
  write: (writer, name, value) => {
    if (value.length % NODE_ID !== 0) throw writer.error("bytes.length", name, `${value.length} octets are not whole ids`);
    writer.u16(`${name}Count`, value.length / NODE_ID);
    writer.bytes(value);
  },
};

const gkma: Codec<GkmaData> = struct({
  algorithm: u8,
  version: u8,
  degree: u8,
  flags: u8,
  largestId: u32,
  index: u16,
  count: u16,
  firstLeaf: u32,
  lastLeaf: u32,
  lifetime: u32,
  refreshed: nodeIds,
  edges: restOctets,
});

/** Reads the data of a GKMA extension. @throws CodecError `bytes.truncated` */
export function decodeGkma(data: Uint8Array, options: ChainOptions = {}): GkmaData {
  return readAll(gkma, data, "gkma", options);
}

/** Writes the data of a GKMA extension. @throws CodecError `bytes.range`, `bytes.length` */
export function encodeGkma(value: GkmaData): Uint8Array {
  return writeAll(gkma, value, "gkma");
}

/** Flags of the sync extension. */
export const SyncFlag = { END: 1, RESTART: 2, TIME: 4 } as const;
/** Flags of an entry of the sync extension. */
export const SyncEntryFlag = { RUNNING: 1, GONE: 2, DATA_SA: 4, IDENTITY: 8 } as const;

/** What is said of one SSRC. */
export interface SyncEntry {
  readonly ssrc: number;
  /** Of the last packet, where the SSRC sends. */
  readonly running?: { readonly roc: number; readonly seq: number };
  /** Packets of this SSRC are dropped from now on. */
  readonly gone: boolean;
  /** Number of its data SA. */
  readonly dataSa?: number;
  /** Its sender, as in an ID payload's data. */
  readonly identity?: Uint8Array;
}

/** sync extension (docs/protocol.md §16.6). */
export interface SyncData {
  /** The group ends with this message. */
  readonly end: boolean;
  /** It begins again: members register anew. Only with `end`. */
  readonly restart: boolean;
  /** NTP time, 8 octets. */
  readonly time?: Uint8Array;
  readonly entries: readonly SyncEntry[];
}

const ntpTime = octets(8);
const identity = prefixedOctets(1);

const syncEntry: Codec<SyncEntry> = {
  read(reader, name) {
    const wall = reader.enter(name);
    const flags = readFlags(reader, 15);
    const entry = {
      ssrc: reader.u32("ssrc"),
      ...((flags & SyncEntryFlag.RUNNING) === 0 ? {} : { running: { roc: reader.u32("roc"), seq: reader.u16("seq") } }),
      gone: (flags & SyncEntryFlag.GONE) !== 0,
      ...((flags & SyncEntryFlag.DATA_SA) === 0 ? {} : { dataSa: reader.u8("dataSa") }),
      ...((flags & SyncEntryFlag.IDENTITY) === 0 ? {} : { identity: identity.read(reader, "identity") }),
    };
    reader.leave(wall);
    return entry;
  },
  write(writer, name, entry) {
    const { running, gone, dataSa, identity: sender } = entry;
    writer.enter(name);
    writer.u8(
      "flags",
      (running === undefined ? 0 : SyncEntryFlag.RUNNING) |
        (gone ? SyncEntryFlag.GONE : 0) |
        (dataSa === undefined ? 0 : SyncEntryFlag.DATA_SA) |
        (sender === undefined ? 0 : SyncEntryFlag.IDENTITY),
    );
    writer.u32("ssrc", entry.ssrc);
    if (running !== undefined) {
      writer.u32("roc", running.roc);
      writer.u16("seq", running.seq);
    }
    if (dataSa !== undefined) writer.u8("dataSa", dataSa);
    if (sender !== undefined) identity.write(writer, "identity", sender);
    writer.leave();
  },
};

const syncEntries = list(syncEntry);

const sync: Codec<SyncData> = {
  read(reader) {
    const flags = readFlags(reader, 7);
    const end = (flags & SyncFlag.END) !== 0;
    const restart = (flags & SyncFlag.RESTART) !== 0;
    if (restart && !end) throw reader.error("bytes.layout", "flags", "a restart is an end");
    const time = (flags & SyncFlag.TIME) === 0 ? {} : { time: ntpTime.read(reader, "time") };
    return { end, restart, ...time, entries: syncEntries.read(reader, "entries") };
  },
  write(writer, _name, { end, restart, time, entries }) {
    if (restart && !end) throw writer.error("bytes.layout", "flags", "a restart is an end");
    writer.u8("flags", (end ? SyncFlag.END : 0) | (restart ? SyncFlag.RESTART : 0) | (time === undefined ? 0 : SyncFlag.TIME));
    if (time !== undefined) ntpTime.write(writer, "time", time);
    syncEntries.write(writer, "entries", [...entries]);
  },
};

/** Reads the data of a sync extension. @throws CodecError `bytes.truncated`, `bytes.layout` for flags that are not defined */
export function decodeSync(data: Uint8Array, options: ChainOptions = {}): SyncData {
  return readAll(sync, data, "sync", options);
}

/** Writes the data of a sync extension. @throws CodecError `bytes.range`, `bytes.length`, `bytes.layout` */
export function encodeSync(value: SyncData): Uint8Array {
  return writeAll(sync, value, "sync");
}

/** Credential of a key server (docs/protocol.md §15.3). */
export interface CredentialData {
  readonly version: number;
  /** 1: controller of the whole group. */
  readonly role: number;
  /** First 64 bits of the SHA-256 of the owner's SubjectPublicKeyInfo. */
  readonly ownerKeyId: Uint8Array;
  /** NTP-UTC, 8 octets. */
  readonly notBefore: Uint8Array;
  readonly notAfter: Uint8Array;
  readonly group: Uint8Array;
  /** Data of the key server's ID payload. */
  readonly identity: Uint8Array;
  /** SubjectPublicKeyInfo of its signing key. */
  readonly key: Uint8Array;
  /** See `SignxAlg`. */
  readonly alg: number;
  readonly signature: Uint8Array;
}

const credential: Codec<CredentialData> = struct({
  version: u8,
  role: u8,
  ownerKeyId: octets(8),
  notBefore: ntpTime,
  notAfter: ntpTime,
  group: prefixedOctets(1),
  identity: prefixedOctets(2),
  key: prefixedOctets(2),
  alg: u8,
  signature: prefixedOctets(2),
});

/** Reads the data of a credential extension. @throws CodecError `bytes.truncated`, `bytes.trailing` */
export function decodeCredential(data: Uint8Array, options: ChainOptions = {}): CredentialData {
  return readAll(credential, data, "credential", options);
}

/** Writes the data of a credential extension. @throws CodecError `bytes.range`, `bytes.length` */
export function encodeCredential(value: CredentialData): Uint8Array {
  return writeAll(credential, value, "credential");
}

/** A receiver refuses flags that nobody defined: what they would change is unknown. */
function readFlags(reader: Reader, defined: number): number {
  const flags = reader.peek();
  if (flags !== undefined && (flags & ~defined) !== 0)
    throw reader.error("bytes.layout", "flags", `flags ${flags} are not defined`);
  return reader.u8("flags");
}

function readAll<T>(codec: Codec<T>, data: Uint8Array, path: string, options: ChainOptions): T {
  const reader = chainReader(data, { path, ...options });
  const value = codec.read(reader, "");
  reader.expectEnd();
  return value;
}

function writeAll<T>(codec: Codec<T>, value: T, path: string): Uint8Array {
  // Most of them are short, and memory of at most 64 octets costs the least.
  const writer = new Writer(path, 64);
  codec.write(writer, "", value);
  return writer.finish();
}
