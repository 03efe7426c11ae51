import type { SipBody, SipRefusal } from "../index.js";

/** What `Invitation.reject` and its like take. */
export interface RejectOptions {
  readonly statusCode: number;
  readonly extraHeaders: string[];
  readonly body?: { readonly body: string; readonly contentType: string };
}

/** A refusal as sip.js sends it: status, Warning headers, the description with the MIKEY ERR message (RFC 4567 §4.1.2). */
export function rejectOptions(refusal: SipRefusal, host = "watchword"): RejectOptions {
  const { body, retryAfter } = refusal;
  return {
    statusCode: refusal.status,
    extraHeaders: [...refusal.warningHeaders(host), ...(retryAfter === undefined ? [] : [`Retry-After: ${retryAfter}`])],
    ...(body === undefined ? {} : { body: { body: body.content, contentType: body.contentType } }),
  };
}

/** Header lines beside a key message in a body: what it is for (RFC 3261 §20.11), and that sip.js carries text only. */
export function mikeyHeaders(body: SipBody): string[] {
  return [`Content-Disposition: ${body.contentDisposition}`, "Content-Transfer-Encoding: base64"];
}
