import { formatHex, Reader, utf8, utf8Text } from "../../src/bytes/index.js";
import type { CryptoProvider } from "../../src/crypto/index.js";
import type { AuditEvent, Gcks } from "../../src/gcks/index.js";
import { decodeRekey, nestedMessages } from "../../src/gsa/index.js";
import { DataType, decodeKeyData, decodeMessage, payloadsOf, requiredPayload } from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { type Epoch, firstBreach, firstGap, type History, type Rule } from "../gkma/oracle.js";
import type { RigMember } from "./rig.js";

/** How a key server's cryptography is spoiled: what the oracle has to find. */
export type Flaw =
  /** A node that gets a new key gets the one that it had. */
  | "node keys come again"
  /** Every data key is the same. */
  | "data keys come again"
  /** Registrations are protected by what everybody can compute. */
  | "registrations are in the clear";

/** What the policy of a group promises. */
export interface AccessPromise {
  readonly joins: "none" | "at-once" | "batched";
  readonly leaves: "at-once" | "batched";
  readonly batchMs: number;
}

/** Time that a step may take beside what it waits for. */
const SLACK_MS = 1000;

interface HeldKey {
  readonly kind: "kek" | "data";
  readonly spi: number;
  readonly key: string;
}

/**
 * Stands beside a key server and knows everything that an attacker could: all traffic, and what each identity was ever told, over all its
 * memberships. Keys are their octets, in hexadecimal; what follows from what are the functions and wrappings that the key server computed.
 */
export class Witness {
  readonly crypto: CryptoProvider;
  readonly #problems: string[] = [];
  readonly #promise: AccessPromise;
  readonly #now: () => number;
  readonly #rules = new Map<string, Rule>();
  /** What was wrapped, by what came of it. */
  readonly #wrapped = new Map<string, readonly string[]>();
  readonly #told = new Map<number, string[]>();
  readonly #numbers = new Map<string, number>();
  /** Memberships of an identity. */
  readonly #live = new Map<number, number>();
  readonly #departedAt = new Map<number, number>();
  readonly #epochs: (Epoch & { readonly members: Set<number> })[] = [];
  readonly #keys = new Map<string, HeldKey>();
  #fresh: HeldKey[] = [];
  readonly #sent = new Map<string, string>();
  readonly #packets = new Set<string>();
  readonly #owners = new Map<number, string>();

  constructor(promise: AccessPromise, now: () => number, flaw?: Flaw) {
    this.#promise = promise;
    this.#now = now;
    this.crypto = this.#recording(flaw);
    // Zeros and nothing are known to everybody: keys that were wiped and used all the same are no secrets.
    this.#told.set(this.#numberOf("everybody"), [formatHex(new Uint8Array(16)), formatHex(new Uint8Array(32))]);
  }

  /** What the key server says of memberships. */
  audit({ type, member }: AuditEvent): void {
    if (type === "group-restarted") this.#live.clear();
    if (member === undefined) return;
    const number = this.#numberOf(member);
    const count = this.#live.get(number) ?? 0;
    if (type === "admitted") {
      this.#live.set(number, count + 1);
      this.#departedAt.delete(number);
      // Where joins bring no new keys, newcomers are told those of now.
      if (this.#promise.joins === "none") {
        const current = [...this.#keys.values()].findLast(({ kind }) => kind === "data")?.key;
        for (const { key, members } of this.#epochs) if (key === current) members.add(number);
      }
    }
    if (type === "left" || type === "removed" || type === "expelled" || type === "replaced") {
      this.#live.set(number, count - 1);
      if (count === 1) this.#departedAt.set(number, this.#now() - (type === "expelled" ? this.#promise.batchMs + SLACK_MS : 0));
    }
  }

  /** A message to one member: a response with GSA messages in it, or one by itself. */
  told(octets: Uint8Array): void {
    if (octets[1] === DataType.REKEY) {
      this.control(octets);
      return;
    }
    const message = decodeMessage(octets);
    if (message.header.dataType !== DataType.GSA) {
      for (const nested of nestedMessages(payloadsOf(message, "EXT"))) this.told(nested);
      return;
    }
    const [, member] = payloadsOf(message, "ID");
    const number = this.#numberOf(utf8Text(member?.data ?? new Uint8Array(0)) ?? "");
    const { encrData } = requiredPayload(message, "KEMAC");
    const keys = encrData.length === 0 ? [] : this.#wrapped.get(formatHex(encrData));
    if (keys === undefined) throw new Error("a GSA message that the key server never made");
    this.#told.set(number, [...(this.#told.get(number) ?? []), ...keys]);
  }

  /** A message to the group: never two contents under one number. */
  control(octets: Uint8Array): void {
    const { kind, csbId, sequence, gkma } = decodeRekey(octets);
    if (octets.length > 1200) this.#problems.push(`a packet of ${octets.length} octets`);
    if (kind === "heartbeat") return;
    this.#once(`sequence ${csbId} ${sequence} ${gkma?.index ?? 0}`, formatHex(octets));
  }

  /** SRTP on the wire: no packet index twice under one key (RFC 3711 §9.1). */
  packet(packet: Uint8Array, mki: number): void {
    const view = new DataView(packet.buffer, packet.byteOffset);
    const index = `${mki} ${view.getUint32(8)} ${view.getUint16(2)}`;
    if (this.#packets.has(index)) this.#problems.push(`packet ${index} twice`);
    this.#packets.add(index);
  }

  /** Looks at the group as it is: who is not in it must not have the keys that are in use. */
  look(gcks: Gcks): void {
    const [group] = gcks.groups;
    const patience = this.#promise.leaves === "batched" ? this.#promise.batchMs + SLACK_MS : 0;
    const members = this.#members();
    for (const [number, at] of this.#departedAt) if (this.#now() - at < patience) members.add(number);
    for (const { kind, spi, key } of this.#keys.values()) {
      const current = kind === "kek" ? spi === group?.kekSpi : group?.mkis.includes(spi);
      if (current === true) this.#epochs.push({ version: spi, key, members });
    }
    for (const { number, ssrcs } of gcks.members("blue"))
      for (const ssrc of ssrcs) {
        const owner = this.#owners.get(ssrc);
        if (owner !== undefined && owner !== `member ${number}`) this.#problems.push(`SSRC ${ssrc} of two members`);
        this.#owners.set(ssrc, `member ${number}`);
      }
  }

  /** Who could find out what was not meant for him, all working together; and which member of now could not find out what is. */
  judge(gcks: Gcks): { readonly breach: unknown; readonly gap: unknown; readonly problems: readonly string[] } {
    this.look(gcks);
    const { mkis = [], kekSpi } = gcks.groups[0] ?? {};
    const last = this.#epochs.filter(({ version }) => version === kekSpi || mkis.includes(version)).slice(-1 - mkis.length);
    const members = this.#members();
    return {
      breach: firstBreach(this.history),
      gap: firstGap({ ...this.history, epochs: last.map((epoch) => ({ ...epoch, members })) }),
      problems: this.#problems,
    };
  }

  get history(): History {
    return { told: this.#told, rules: [...this.#rules.values()], epochs: this.#epochs };
  }

  /** The keys that members hold are those of the key server. */
  compare(live: readonly RigMember[], gcks: Gcks): void {
    const kekSpi = gcks.groups[0]?.kekSpi;
    const expected = [...this.#keys.values()].findLast(({ kind, spi }) => kind === "kek" && spi === kekSpi)?.key;
    for (const { name, member } of live) {
      const { kek } = member.memberships[0] as unknown as { kek: { spi: number; key: Uint8Array } | undefined };
      if (kek?.spi !== kekSpi || kek === undefined || formatHex(kek.key) !== expected)
        this.#problems.push(`${name} has another KEK`);
    }
  }

  #members(): Set<number> {
    return new Set([...this.#live].flatMap(([number, count]) => (count > 0 ? [number] : [])));
  }

  #numberOf(name: string): number {
    const number = this.#numbers.get(name) ?? this.#numbers.size + 1;
    this.#numbers.set(name, number);
    return number;
  }

  #once(name: string, content: string): void {
    const before = this.#sent.get(name);
    if (before !== undefined && before !== content) this.#problems.push(`${name} has two contents`);
    this.#sent.set(name, content);
  }

  /** A key came into force. Who is in the group then is known when the step is done, and that is at once. */
  #held({ kind, spi, key }: HeldKey): void {
    const known = this.#keys.get(`${kind} ${spi}`);
    // A restart counts its keys again.
    if (known?.key === key) return;
    if (known !== undefined) this.#problems.push(`${kind} ${spi} has two keys`);
    if ([...this.#keys.values()].some((other) => other.key === key))
      this.#problems.push(`${kind} ${spi} has a key that was there before`);
    this.#keys.set(`${kind} ${spi}`, { kind, spi, key });
    this.#fresh.push({ kind, spi, key });
    if (this.#fresh.length > 1) return;
    queueMicrotask(() => {
      const members = this.#members();
      for (const made of this.#fresh) this.#epochs.push({ version: made.spi, key: made.key, members: new Set(members) });
      this.#fresh = [];
    });
  }

  #recording(flaw: Flaw | undefined): CryptoProvider {
    const rule = (from: string, to: string): void => void this.#rules.set(`${from} ${to}`, { from: [from], to });
    const derived = (from: Uint8Array, to: Uint8Array): void => {
      for (const part of [to, to.subarray(0, 16), to.subarray(16, 32)]) rule(formatHex(from), formatHex(part));
    };
    const hmacOnce: CryptoProvider["hmacOnce"] = (name, key, ...parts) => {
      const [label = new Uint8Array(0)] = parts;
      if (startsWith(label, HELD)) this.#held(heldKeyIn(label, key));
      const spoiled = flaw === "node keys come again" && startsWith(label, FRESH);
      const tag = spoiled
        ? nodeCrypto.hmacOnce(name, key.slice().fill(7), label.subarray(0, 13))
        : nodeCrypto.hmacOnce(name, key, ...parts);
      derived(key, tag);
      return tag;
    };
    return {
      ...nodeCrypto,
      hmacOnce,
      pHashOnce: (name, key, seed) => hmacOnce(name, key, hmacOnce(name, key, seed), seed),
      hmac: (name, key) => {
        const secret = key.slice();
        return {
          ...nodeCrypto.hmac(name, key),
          compute: (...parts) => {
            if (flaw === "data keys come again" && startsWith(parts[0] ?? secret, DATA))
              return nodeCrypto.hmacOnce(name, new Uint8Array(1), (parts[0] as Uint8Array).subarray(0, 10));
            return hmacOnce(name, secret, ...parts);
          },
        };
      },
      aesKeyWrapPad: (key, plaintext) => {
        const wrapped = nodeCrypto.aesKeyWrapPad(key, plaintext);
        const keys = decodeKeyData(plaintext).map((data) => formatHex(data.key));
        this.#wrapped.set(formatHex(wrapped), keys);
        const from = flaw === "registrations are in the clear" ? formatHex(new Uint8Array(16)) : formatHex(key);
        for (const to of keys) rule(from, to);
        return wrapped;
      },
      aesKeyWrapPadMany: (keys, plaintexts, length, out) => {
        for (let at = 0; at < keys.length; at += length) {
          rule(formatHex(keys.subarray(at, at + length)), formatHex(plaintexts.subarray(at, at + length)));
        }
        nodeCrypto.aesKeyWrapPadMany(keys, plaintexts, length, out);
      },
    };
  }
}

const HELD = utf8("ww1 held");
const FRESH = utf8("ww1 fresh");
const DATA = utf8("gcks data");

function startsWith(octets: Uint8Array, head: Uint8Array): boolean {
  return head.every((octet, at) => octets[at] === octet);
}

/** "ww1 held" ‖ L8 group ‖ L8 (CSB ID, kind, SPI): docs/protocol.md §19. */
function heldKeyIn(label: Uint8Array, key: Uint8Array): HeldKey {
  const reader = new Reader(label.subarray(HELD.length), "held");
  reader.bytes("group", reader.u8("length"));
  reader.u8("length");
  reader.u32("csbId");
  return { kind: reader.u8("kind") === 0 ? "kek" : "data", spi: reader.u32("spi"), key: formatHex(key) };
}
