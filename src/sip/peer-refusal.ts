import { WatchwordError } from "../bytes/index.js";
import { reportOfRefusal } from "../gsa/index.js";
import type { ErrorReport } from "../mikey/index.js";
import { readKeyMgmt } from "../sdp/index.js";
import { mediaType, parseMikeyBody } from "./bodies.js";
import type { ReceivedBody } from "./contracts.js";
import { PROTOCOL } from "./description.js";
import type { OfferedPart } from "./exchange.js";

/** A final response that refuses an offer. */
export interface RefusingResponse {
  readonly status: number;
  readonly body: ReceivedBody | undefined;
  /** Values of Warning headers. */
  readonly warnings: readonly string[];
}

/** What it says of the offer. */
export interface PeerRefusal {
  /** The MIKEY ERR message (RFC 3830 §6.12), where one came. */
  readonly report: ErrorReport | undefined;
  /** It may be about something in the offer. */
  readonly aboutTheOffer: boolean;
  /** It says that the keys are what was not acceptable (RFC 4567 §4.1.2). */
  readonly aboutTheKeys: boolean;
}

/** Final responses that may be about something in the offer. */
const ABOUT_THE_OFFER: ReadonlySet<number> = new Set([400, 415, 488, 606]);
/** Final responses that say that the session description was not acceptable (RFC 3261 §21.4.26, §21.6.4). */
const NOT_ACCEPTABLE: ReadonlySet<number> = new Set([488, 606]);
/** RFC 3261 §20.43. */
const ATTRIBUTE_NOT_UNDERSTOOD = 306;
const MAX_WARNING = 2048;

/** Reads a refusal of what was offered in these parts. Whatever is damaged in it says nothing. */
export async function readPeerRefusal(
  parts: readonly OfferedPart[],
  { status, body, warnings }: RefusingResponse,
): Promise<PeerRefusal> {
  const octets = octetsIn(body);
  const report = octets === undefined ? undefined : await reportOfRefusal(parts, octets);
  const named = report !== undefined || warnings.some((value) => warningCodes(value).includes(ATTRIBUTE_NOT_UNDERSTOOD));
  return {
    report,
    aboutTheOffer: ABOUT_THE_OFFER.has(status) || report !== undefined,
    aboutTheKeys: named && NOT_ACCEPTABLE.has(status),
  };
}

/** The codes of a Warning header: `306 host "text", 399 host "text"`. */
function warningCodes(value: string): number[] {
  const outside = value.slice(0, MAX_WARNING).replace(/"(?:[^"\\]|\\.)*"?/g, "");
  return outside.split(",").flatMap((part) => {
    const code = /^\s*(\d{3})\s/.exec(part)?.[1];
    return code === undefined ? [] : [Number(code)];
  });
}

/** The key message of a refusal; undefined where it has none, or one that cannot be read. */
function octetsIn(body: ReceivedBody | undefined): Uint8Array | undefined {
  try {
    return messageIn(body);
  } catch (error) {
    if (error instanceof WatchwordError) return undefined;
    throw error;
  }
}

/** The key message of a refusal: a body of its own, or in a description. */
export function messageIn(body: ReceivedBody | undefined): Uint8Array | undefined {
  if (body === undefined || mediaType(body.contentType) !== "application/sdp") return parseMikeyBody(body);
  const text = typeof body.content === "string" ? body.content : String.fromCharCode(...body.content);
  return readKeyMgmt(text).attributes.find(({ protocol, data }) => protocol === PROTOCOL && data !== undefined)?.data;
}
