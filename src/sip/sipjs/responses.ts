import type { SipRefusal } from "../index.js";

/** What `Invitation.reject` and its like take. */
export interface RejectOptions {
  readonly statusCode: number;
  readonly extraHeaders: string[];
  readonly body?: { readonly body: string; readonly contentType: string };
}

/** A refusal as sip.js sends it: status, Warning headers, the description with the MIKEY ERR message (RFC 4567 §4.1.2). */
export function rejectOptions(refusal: SipRefusal, host = "watchword"): RejectOptions {
  const { body } = refusal;
  return {
    statusCode: refusal.status,
    extraHeaders: refusal.warningHeaders(host),
    ...(body === undefined ? {} : { body: { body: body.content, contentType: body.contentType } }),
  };
}
