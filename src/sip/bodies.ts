import { CodecError, formatBase64, parseBase64 } from "../bytes/index.js";
import type { ReceivedBody, SipBody } from "./contracts.js";

/** RFC 3830 §10.1. */
export const MIKEY_TYPE = "application/mikey";
/** RFC 3261 §20.11: who does not know the body ignores it. */
export const MIKEY_DISPOSITION = "signal;handling=optional";

/** Longest key message that is accepted in a body. */
const MAX_BODY = 65_536;

/** A key message as a body of its own. */
export function mikeyBody(octets: Uint8Array): SipBody {
  return { contentType: MIKEY_TYPE, contentDisposition: MIKEY_DISPOSITION, content: formatBase64(octets), octets };
}

/**
 * The key message of an `application/mikey` body: binary (octets, or text with one character per octet) or base64. A binary one begins
 * with octet 1, the version (RFC 3830 §6.1); base64 of that with `A`.
 * @returns undefined where the body is absent or of another type
 * @throws CodecError `sip.body`, `bytes.base64`
 */
export function parseMikeyBody(body: ReceivedBody | undefined): Uint8Array | undefined {
  if (body === undefined || mediaType(body.contentType) !== MIKEY_TYPE) return undefined;
  const { content } = body;
  if (content.length > MAX_BODY) throw new CodecError("sip.body", "body", MAX_BODY, `more than ${MAX_BODY} octets`);
  const first = typeof content === "string" ? content.charCodeAt(0) : content[0];
  if (first === 1) return typeof content === "string" ? octetsOf(content) : content.slice();
  const text = typeof content === "string" ? content : String.fromCharCode(...content);
  return parseBase64(text.replace(/[ \t\r\n]+/g, ""), "body");
}

/** Type and subtype in lower case, without parameters. */
export function mediaType(contentType: string): string {
  return (contentType.split(";")[0] as string).trim().toLowerCase();
}

/** Text with one character per octet, which is how some stacks hand binary bodies over. */
function octetsOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character, index) => {
    const unit = character.charCodeAt(0);
    if (unit > 0xff) throw new CodecError("sip.body", "body", index, "a binary body that was decoded as text is damaged");
    return unit;
  });
}
