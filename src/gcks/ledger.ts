/** What a key server remembers of a group, as records of a log: with the snapshots of `group-state.ts` they are all that a restart knows. */
import { formatHex, parseHex, Reader, utf8, utf8Text, WatchwordError, Writer } from "../bytes/index.js";
import type { GroupRegistration, MemberRole } from "../gsa/index.js";
import type { Endpoint } from "../io/index.js";
import type { Identity } from "../mikey/index.js";

/** A member as it is admitted. */
export interface AdmittedMember {
  readonly identity: Identity;
  readonly role: MemberRole;
  /** By number of the m= line, from 1. */
  readonly ssrcs: readonly number[];
}

/** What a member's registration leaves behind, once the exchange is complete. */
export type MemberKeys = Omit<GroupRegistration, "role" | "gcks" | "member">;

/** A sender as it last reported. */
export interface SenderPosition {
  readonly ssrc: number;
  readonly roc: number;
  readonly seq: number;
}

/** One atomic change of a group. Members are named by number. */
export interface GroupStep {
  /** Milliseconds since 1970. */
  readonly at: number;
  /** Who is admitted, in the order in which the tree seats them, and the numbers that they get. */
  readonly admit?: readonly AdmittedMember[];
  readonly numbers?: readonly number[];
  /** Registrations that are complete. */
  readonly bind?: readonly { readonly number: number; readonly keys: MemberKeys }[];
  /** Whose memberships end with this step. */
  readonly leave?: readonly number[];
  /** Confirmed by a report, or renewed, with the report's counter and, by UDP, where it came from. */
  readonly confirm?: readonly { readonly number: number; readonly counter: number; readonly address?: Endpoint }[];
  /** Whose dialog or session is gone without proof. */
  readonly lapse?: readonly number[];
  readonly senders?: readonly SenderPosition[];
  /** A change of the tree or of keys. */
  readonly rekey?: {
    readonly sequence: number;
    /** 32 octets, hexadecimal: every key of this step derives from it. */
    readonly seed: string;
    /** Admits to the tree without a rekey; the members wait for the next one. */
    readonly admissionOnly?: boolean;
    readonly replace?: boolean;
    /** New data keys under the KEK that is there. */
    readonly keepTree?: boolean;
    readonly dataKeys: readonly { readonly dataSa: number; readonly mki: number }[];
  };
  /** The group has ended. */
  readonly end?: boolean;
}

/** Constants of a group, made with it. */
export interface GroupBirth {
  readonly csbId: number;
  readonly rand: Uint8Array;
  /** Permutes the counter of SSRCs. */
  readonly ssrcKey: Uint8Array;
}

const FORMAT = 1;
const STEP = 1;
const BIRTH = 2;

/** A record: a step, and the packets that it sends. */
export function encodeStep(step: GroupStep, packets: readonly Uint8Array[]): Uint8Array {
  return encodeRecord(STEP, stringify(step), packets);
}

/** A record: a group begins, or begins again. @param packets the farewell of the one before */
export function encodeBirth({ csbId, rand, ssrcKey }: GroupBirth, packets: readonly Uint8Array[]): Uint8Array {
  return encodeRecord(BIRTH, stringify({ csbId, rand, ssrcKey }), packets);
}

export type LedgerRecord = { readonly packets: readonly Uint8Array[] } & (
  | { readonly kind: "birth"; readonly birth: GroupBirth }
  | { readonly kind: "step"; readonly step: GroupStep }
);

/** @throws WatchwordError `gcks.ledger` for what this version did not write */
export function decodeRecord(data: Uint8Array): LedgerRecord {
  try {
    const reader = new Reader(data, "ledger");
    const format = reader.u8("format");
    const kind = reader.u8("kind");
    if (format !== FORMAT || (kind !== STEP && kind !== BIRTH))
      throw new WatchwordError("gcks.ledger", "a record of another version");
    const content = parse(utf8Text(reader.bytes("content", reader.u32("length"))) ?? "");
    const packets: Uint8Array[] = [];
    while (reader.remaining > 0) packets.push(reader.bytes("packet", reader.u16("length")));
    return kind === BIRTH
      ? { kind: "birth", birth: content as GroupBirth, packets }
      : { kind: "step", step: content as GroupStep, packets };
  } catch (error) {
    if (error instanceof WatchwordError && error.code === "gcks.ledger") throw error;
    throw new WatchwordError("gcks.ledger", "a record cannot be read", { cause: error });
  }
}

function encodeRecord(kind: number, text: string, packets: readonly Uint8Array[]): Uint8Array {
  const content = utf8(text);
  const writer = new Writer("ledger", 6 + content.length + packets.reduce((sum, packet) => sum + packet.length + 2, 0));
  writer.u8("format", FORMAT);
  writer.u8("kind", kind);
  writer.u32("length", content.length);
  writer.bytes(content);
  for (const packet of packets) {
    writer.u16("length", packet.length);
    writer.bytes(packet);
  }
  return writer.finish();
}

/** JSON in which octets and big integers stand as tagged text. */
export function stringify(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => {
    if (item instanceof Uint8Array) return { $hex: formatHex(item) };
    if (typeof item === "bigint") return { $int: item.toString() };
    return item;
  });
}

export function parse(text: string): unknown {
  return JSON.parse(text, (_key, item: unknown) => {
    if (typeof item !== "object" || item === null) return item;
    if ("$hex" in item && typeof item.$hex === "string") return parseHex(item.$hex);
    if ("$int" in item && typeof item.$int === "string") return BigInt(item.$int);
    return item;
  });
}
