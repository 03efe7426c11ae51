import { MikeyError } from "../errors.js";
import type { DecodedMessage, Payload, PayloadKind } from "../message.js";

/**
 * Which payloads a message consists of (RFC 3830 §3): how often each may be there. Their order is a recommendation
 * (§5.2), except that the payload which authenticates stands last.
 */
export interface Grammar {
  readonly counts: Readonly<Partial<Record<PayloadKind, readonly [least: number, most: number]>>>;
  /** What authenticates: one payload of this kind, or of one of these, once and last. Absent where nothing has to. */
  readonly last?: PayloadKind | readonly PayloadKind[];
}

/** @throws MikeyError `mikey.grammar` that names the payload */
export function checkGrammar(message: DecodedMessage, grammar: Grammar): void {
  const { counts, last } = grammar;
  const present = message.payloads.map(({ kind }) => kind);
  for (const kind of present) {
    const most = counts[kind]?.[1] ?? 0;
    if (most === 0) throw new MikeyError("mikey.grammar", `${kind} does not belong into this message`);
    const found = countOf(present, kind);
    if (found > most) throw new MikeyError("mikey.grammar", `${found} ${kind} payloads, at most ${most} belong here`);
  }
  for (const kind in counts) {
    const least = counts[kind as PayloadKind]?.[0] ?? 0;
    if (least > 0 && countOf(present, kind as PayloadKind) < least) throw new MikeyError("mikey.grammar", `${kind} is missing`);
  }
  if (last === undefined) return;
  const kinds = typeof last === "string" ? [last] : last;
  let found = 0;
  for (const kind of kinds) found += countOf(present, kind);
  if (found !== 1) throw new MikeyError("mikey.grammar", `${found} payloads authenticate the message (${kinds.join(", ")})`);
  const final = present.at(-1);
  if (final === undefined || !kinds.includes(final)) {
    throw new MikeyError("mikey.grammar", `${kinds.join(" or ")} is not the last payload`);
  }
}

function countOf(kinds: readonly PayloadKind[], kind: PayloadKind): number {
  let count = 0;
  for (const one of kinds) if (one === kind) count++;
  return count;
}

type PayloadOf<K extends PayloadKind> = Extract<Payload, { kind: K }>;

/** All payloads of a kind, in order. */
export function payloadsOf<K extends PayloadKind>(message: DecodedMessage, kind: K): PayloadOf<K>[] {
  const found: PayloadOf<K>[] = [];
  for (const payload of message.payloads) if (payload.kind === kind) found.push(payload as PayloadOf<K>);
  return found;
}

/** The first payload of a kind. */
export function payloadOf<K extends PayloadKind>(message: DecodedMessage, kind: K): PayloadOf<K> | undefined {
  for (const payload of message.payloads) if (payload.kind === kind) return payload as PayloadOf<K>;
  return undefined;
}

/** The first payload of a kind that the grammar requires. @throws MikeyError `mikey.grammar` */
export function requiredPayload<K extends PayloadKind>(message: DecodedMessage, kind: K): PayloadOf<K> {
  const payload = payloadOf(message, kind);
  if (payload === undefined) throw new MikeyError("mikey.grammar", `${kind} is missing`);
  return payload;
}

/**
 * What the MAC or signature of the last payload covers: the octets as received, up to its value (RFC 3830 §5.2).
 */
export function coveredOctets(message: DecodedMessage): Uint8Array {
  return message.octets.subarray(0, message.spans.at(-1)?.valueStart ?? message.octets.length);
}
