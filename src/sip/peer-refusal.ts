import { WatchwordError } from "../bytes/index.js";
import { DataType, decodeMessage, ErrorNo, MikeyPeerError, peerErrorOf } from "../mikey/index.js";
import { readKeyMgmt } from "../sdp/index.js";
import { mediaType, parseMikeyBody } from "./bodies.js";
import type { ReceivedBody } from "./contracts.js";
import { PROTOCOL } from "./description.js";
import type { OfferedPart, OwnExchange } from "./exchange.js";

/** A final response that refuses an offer. */
export interface RefusingResponse {
  readonly status: number;
  readonly body: ReceivedBody | undefined;
  /** Values of Warning headers. */
  readonly warnings: readonly string[];
}

/** What it says of the offer. */
export interface PeerRefusal {
  /** Numbers of the MIKEY ERR message (RFC 3830 §6.12), where one came. */
  readonly errorNos: readonly number[];
  readonly authenticated: boolean;
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
  const { errorNos, authenticated } = await errorIn(parts, body);
  const named = errorNos.length > 0 || warnings.some((value) => warningCodes(value).includes(ATTRIBUTE_NOT_UNDERSTOOD));
  return {
    errorNos,
    authenticated,
    aboutTheOffer: ABOUT_THE_OFFER.has(status) || errorNos.length > 0,
    aboutTheKeys: named && NOT_ACCEPTABLE.has(status),
  };
}

/** What numbers of docs/protocol.md §4.3 are refused with by who does not know them, or does not want them. */
const ABOUT_NUMBERS: ReadonlySet<number> = new Set([
  ErrorNo.INVALID_PRF,
  ErrorNo.INVALID_MAC,
  ErrorNo.INVALID_EA,
  ErrorNo.INVALID_DH,
  ErrorNo.INVALID_DT,
  ErrorNo.UNSUPPORTED_MESSAGE,
]);

/**
 * Whether another offer, without HELLO and the numbers that it announces, may be taken where this one was refused: an error that names its cause names
 * another one (docs/protocol.md §8), unless such numbers are the cause.
 */
export function mayTryWithoutHello({ saidHello, parts }: OwnExchange, errorNos: readonly number[]): boolean {
  // Policy does without them on no account.
  if (!saidHello || parts.some(({ privateNumbers }) => privateNumbers === "required")) return false;
  const numbers = parts.some(({ privateNumbers }) => privateNumbers === "preferred");
  return errorNos.every((errorNo) => errorNo === ErrorNo.UNSPECIFIED || (numbers && ABOUT_NUMBERS.has(errorNo)));
}

/** The codes of a Warning header: `306 host "text", 399 host "text"`. */
function warningCodes(value: string): number[] {
  const outside = value.slice(0, MAX_WARNING).replace(/"(?:[^"\\]|\\.)*"?/g, "");
  return outside.split(",").flatMap((part) => {
    const code = /^\s*(\d{3})\s/.exec(part)?.[1];
    return code === undefined ? [] : [Number(code)];
  });
}

type ErrorReading = Pick<PeerRefusal, "errorNos" | "authenticated">;

/** The MIKEY error of a refusal, verified against what was offered where it can be. */
async function errorIn(parts: readonly OfferedPart[], body: ReceivedBody | undefined): Promise<ErrorReading> {
  const nothing = { errorNos: [], authenticated: false };
  try {
    const octets = messageIn(body);
    if (octets === undefined || decodeMessage(octets).header.dataType !== DataType.ERROR) return nothing;
    for (const part of parts) {
      try {
        await part.accept(octets);
      } catch (error) {
        if (error instanceof MikeyPeerError) return error.report;
        if (!(error instanceof WatchwordError)) throw error;
      }
    }
    return peerErrorOf(octets)?.report ?? nothing;
  } catch (error) {
    if (error instanceof WatchwordError) return nothing;
    throw error;
  }
}

/** The key message of a refusal: a body of its own, or in a description. */
export function messageIn(body: ReceivedBody | undefined): Uint8Array | undefined {
  if (body === undefined || mediaType(body.contentType) !== "application/sdp") return parseMikeyBody(body);
  const text = typeof body.content === "string" ? body.content : String.fromCharCode(...body.content);
  return readKeyMgmt(text).attributes.find(({ protocol, data }) => protocol === PROTOCOL && data !== undefined)?.data;
}
