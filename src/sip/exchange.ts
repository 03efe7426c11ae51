import { CodecError } from "../bytes/index.js";
import type { KeyedMedia, MediaOffer } from "../gsa/index.js";
import type { SdpSection } from "../sdp/index.js";
import { parseMikeyBody } from "./bodies.js";
import type { ReceivedBody } from "./contracts.js";
import { type DescribedLine, type KeyedDescription, takesConfiguration } from "./description.js";
import { SipRefusal } from "./refusal.js";

/** One key message of an offer of ours. */
export interface OfferedPart {
  readonly section: SdpSection;
  readonly lines: readonly number[];
  readonly octets: Uint8Array;
  /** As in `MediaOffer`. */
  readonly privateNumbers?: MediaOffer["privateNumbers"];
  accept(answer: Uint8Array): Promise<KeyedMedia>;
  fork?(answer: Uint8Array): Promise<KeyedMedia>;
  abandon(): void;
}

/** One key message of an offer of theirs, verified. */
export interface AnsweredPart {
  readonly section: SdpSection;
  readonly lines: readonly number[];
  readonly media: KeyedMedia;
  readonly response: Uint8Array | undefined;
  commit(): void;
  rollback(): void;
}

/** An offer of ours under way. */
export interface OwnExchange {
  readonly by: "us";
  /** There were no keys before. */
  readonly first: boolean;
  readonly saidHello: boolean;
  readonly local: readonly DescribedLine[];
  readonly parts: readonly OfferedPart[];
  /** What the answer says in a=acfg, by m= line, where keys were offered as capabilities (RFC 5939). */
  readonly configurations: ReadonlyMap<number, string>;
}

/** An offer of theirs under way. */
export interface TheirExchange {
  readonly by: "them";
  readonly text: string;
  readonly remote: KeyedDescription;
  readonly parts: readonly AnsweredPart[];
}

/** An offer/answer exchange under way. */
export type Exchange = OwnExchange | TheirExchange;

/**
 * What answers which part of the offer (RFC 4567 §4.1.2). Everything that would leave a stream unprotected, or protected by something
 * else than was offered, is refused. @throws SipRefusal
 */
export function checkAnswer(
  { local, parts, configurations }: OwnExchange,
  remote: KeyedDescription,
): ReadonlyMap<OfferedPart, Uint8Array> {
  if (remote.lines.length !== local.length) {
    throw new SipRefusal("sip.answer", `the answer has ${remote.lines.length} m= lines, the offer ${local.length} (RFC 3264 §6)`);
  }
  const answered = new Map<OfferedPart, Uint8Array>();
  for (const { section, octets } of remote.messages) {
    const part = parts.find((candidate) => candidate.section === section);
    if (part === undefined) throw new SipRefusal("sip.answer", "the answer has a key message where the offer has none");
    answered.set(part, octets);
  }
  for (const [index, line] of remote.lines.entries()) {
    const offered = local[index] as DescribedLine;
    if (line.rejected) continue;
    if (offered.rejected) throw new SipRefusal("sip.answer", `the answer takes m= line ${index + 1}, which was not offered`);
    if (line.profile !== offered.profile) {
      const profile = line.profile.slice(0, 40);
      throw new SipRefusal(
        "sip.downgrade",
        `the answer has ${profile} where ${offered.profile} was offered on m= line ${index + 1}`,
      );
    }
    const configuration = configurations.get(index);
    if (configuration !== undefined && !takesConfiguration(line.accepted, configuration)) {
      throw new SipRefusal(
        "sip.answer",
        `the answer takes SRTP on m= line ${index + 1} and not its configuration (RFC 5939 §3.6.3)`,
      );
    }
    const part = parts.find(({ section }) => section === line.keys?.section);
    if (part === undefined || !part.lines.includes(index)) {
      const instead = line.hasCrypto ? "a=crypto in place of" : "no";
      throw new SipRefusal("sip.downgrade", `the answer has ${instead} MIKEY message for m= line ${index + 1}`);
    }
  }
  return answered;
}

/** The proof of a body: absent where there is no key message at all. */
export function proofIn(body: ReceivedBody | undefined): Uint8Array | "damaged" | undefined {
  try {
    return parseMikeyBody(body);
  } catch (error) {
    if (error instanceof CodecError) return "damaged";
    throw error;
  }
}
