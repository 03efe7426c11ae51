/** Joining a group by INVITE (docs/protocol.md §23.2): descriptions and refusals, for any stack. */
import { CodecError, WatchwordError } from "../bytes/index.js";
import { GcksRefusal, type GroupDescription, type GroupStreamDescription } from "../gcks/index.js";
import type { MemberRole } from "../gsa/index.js";
import { formatKeyMgmtAttribute, formatMediaLines, readMediaLines } from "../sdp/index.js";
import { parseMikeyBody } from "./bodies.js";
import type { ReceivedBody } from "./contracts.js";
import { PROTOCOL, readDescription } from "./description.js";
import { messageIn } from "./peer-refusal.js";
import { refusalOf, SipRefusal } from "./refusal.js";

/** Transport profiles of groups (docs/protocol.md §23.2). */
const PROFILES = ["RTP/SAVP", "RTP/SAVPF"] as const;
/** RFC 863's port: where packets go says the group, not the offer. */
const NOWHERE = 9;

/** One m= line of a joiner. */
export type GroupOfferStream = Pick<GroupStreamDescription, "media" | "profile" | "formats" | "lines">;

/** Who writes a description. */
export interface DescriptionOrigin {
  /** Our address, for o= and c=. */
  readonly host: string;
  /** Decimal digits; the same over a dialog (RFC 3264 §8). */
  readonly sessionId: string;
  /** Greater with each description of a dialog. */
  readonly version: number;
}

/** The offer of a joiner. */
export interface GroupOffer extends DescriptionOrigin {
  readonly streams: readonly GroupOfferStream[];
  readonly role: MemberRole;
  readonly iMessage: Uint8Array;
}

/** Writes the offer of a joiner: its m= lines, directed as its role, under the I_MESSAGE. @throws CodecError `sdp.text` */
export function formatGroupOffer(offer: GroupOffer): string {
  const direction = directionOf(offer.role);
  return format(
    offer,
    "-",
    offer.iMessage,
    offer.streams.flatMap((stream) => formatMediaLines({ ...stream, port: NOWHERE, lines: [...stream.lines, `a=${direction}`] })),
  );
}

/** An offer as the key server reads it. */
export interface ReceivedGroupOffer {
  readonly iMessage: Uint8Array;
  /** The m= lines in order; `active` where they are keyed and not rejected. */
  readonly lines: readonly {
    readonly media: string;
    readonly profile: string;
    readonly formats: readonly number[];
    readonly active: boolean;
  }[];
}

/** Reads the offer of a joiner. @throws SipRefusal (488) for everything that is none */
export function readGroupOffer(sdp: string): ReceivedGroupOffer {
  try {
    const { lines, messages } = readDescription(sdp, PROFILES);
    const iMessage = messages.find(({ section }) => section === "session")?.octets;
    if (iMessage === undefined || lines.length === 0) {
      const text = "a group is joined with a key-mgmt attribute at session level";
      throw new SipRefusal("sip.group-offer", text, { warnings: [{ code: 306, text }] });
    }
    const media = readMediaLines(sdp);
    return {
      iMessage,
      lines: lines.map(({ index, profile, rejected }) => ({
        media: media[index]?.media ?? "",
        profile,
        formats: media[index]?.formats ?? [],
        active: !rejected && (PROFILES as readonly string[]).includes(profile),
      })),
    };
  } catch (error) {
    throw refusalOf(error);
  }
}

/** The answer of a key server. */
export interface GroupAnswer extends DescriptionOrigin {
  readonly offer: ReceivedGroupOffer;
  readonly response: Uint8Array;
  /** The group of the dialog, and what its member may do. */
  readonly description: GroupDescription;
  readonly role: MemberRole;
}

/** Writes the answer: the R_MESSAGE, and for tools where the packets of each m= line go. @throws CodecError `sdp.text` */
export function formatGroupAnswer(answer: GroupAnswer): string {
  const { streams } = answer.description;
  // RFC 3264 §6.1, seen from the group: what the member sends is received.
  const direction = directionOf({ send: answer.role.receive, receive: answer.role.send });
  const lines = answer.offer.lines.flatMap((line, index) => {
    const stream = streams[index];
    if (!line.active || stream?.media !== line.media) {
      // A rejected line has a format all the same (RFC 3264 §6).
      return formatMediaLines({ ...line, formats: line.formats.length === 0 ? [0] : line.formats, port: 0 });
    }
    const { port, host, ttl } = stream.destination;
    return formatMediaLines({
      media: line.media,
      profile: line.profile,
      formats: stream.formats,
      port,
      connection: { host, ...(ttl === undefined ? {} : { ttl }) },
      lines: [...stream.lines, `a=${direction}`],
    });
  });
  return format(answer, answer.description.title ?? "-", answer.response, lines);
}

/** What the answer of a key server says. */
export interface ReceivedGroupAnswer {
  readonly response: Uint8Array;
  /** The m= lines as the description repeats them; undefined where the group does not have one. */
  readonly streams: readonly (GroupStreamDescription | undefined)[];
}

/** Reads the answer of a key server. @throws SipRefusal `sip.group-answer`, and for what is no description */
export function readGroupAnswer(sdp: string): ReceivedGroupAnswer {
  try {
    const { lines, messages } = readDescription(sdp, PROFILES);
    const response = messages.find(({ section }) => section === "session")?.octets;
    if (response === undefined) throw new SipRefusal("sip.group-answer", "the answer has no key message");
    const media = readMediaLines(sdp);
    return {
      response,
      streams: lines.map(({ index, rejected, profile }) => {
        const section = media[index];
        if (section?.connection === undefined || rejected) return undefined;
        const { formats, lines: codecs = [], connection, port } = section;
        return { media: section.media, profile, formats, lines: codecs, destination: { ...connection, port } };
      }),
    };
  } catch (error) {
    throw refusalOf(error);
  }
}

/** How SIP says that a registration or request was refused (docs/protocol.md §22). */
export function groupRefusalOf(error: unknown): SipRefusal {
  if (!(error instanceof GcksRefusal)) return refusalOf(error);
  const { code, message, status, reply, retryAfter } = error;
  return new SipRefusal(code, message, {
    status: status.sip,
    reply,
    cause: error,
    ...(retryAfter === undefined ? {} : { retryAfter }),
  });
}

/** The ERR message in a refusal of the key server; undefined where there is none that can be read. */
export function errorMessageIn(body: ReceivedBody | undefined): Uint8Array | undefined {
  try {
    return messageIn(body);
  } catch (error) {
    if (error instanceof WatchwordError) return undefined;
    throw error;
  }
}

/** The proof or acknowledgement beside BYE: one that cannot be read is empty, which proves nothing. */
export function proofIn(body: ReceivedBody | undefined): Uint8Array | undefined {
  try {
    return parseMikeyBody(body);
  } catch (error) {
    if (error instanceof CodecError) return new Uint8Array(0);
    throw error;
  }
}

/** By which request key messages are sent in a dialog. */
export type MemberMethod = "MESSAGE" | "INFO";

/** MESSAGE, or INFO where the peer does not allow that (docs/protocol.md §23.2). @param allow values of its Allow headers */
export function memberMethodOf(allow: readonly string[]): MemberMethod {
  const methods = allow.flatMap((value) => value.split(",")).map((method) => method.trim().toUpperCase());
  return methods.includes("INFO") && !methods.includes("MESSAGE") ? "INFO" : "MESSAGE";
}

function format(origin: DescriptionOrigin, name: string, message: Uint8Array, media: readonly string[]): string {
  const address = `IN IP${origin.host.includes(":") ? 6 : 4} ${origin.host}`;
  const lines = [
    "v=0",
    `o=- ${origin.sessionId} ${origin.version} ${address}`,
    `s=${name}`,
    `c=${address}`,
    "t=0 0",
    "a=x-watchword:1",
    `a=key-mgmt:${formatKeyMgmtAttribute(PROTOCOL, message)}`,
    ...media,
  ];
  return `${lines.join("\r\n")}\r\n`;
}

function directionOf({ send, receive }: MemberRole): "sendrecv" | "sendonly" | "recvonly" | "inactive" {
  if (send) return receive ? "sendrecv" : "sendonly";
  return receive ? "recvonly" : "inactive";
}
