import { formatBase64, WatchwordError } from "../bytes/index.js";
import { MikeyError } from "../mikey/index.js";
import type { SipBody, SipWarning } from "./contracts.js";

/**
 * Why an offer or answer is not acceptable, and how SIP says it (RFC 4567 §4.1.2): the response to a request, or the Reason of the BYE
 * that follows the ACK of a bad answer.
 */
export class SipRefusal extends WatchwordError {
  override readonly name: string = "SipRefusal";
  /** 488 Not Acceptable Here; 491 Request Pending for glare (RFC 3261 §14.2). */
  readonly status: number;
  readonly warnings: readonly SipWarning[];
  /** A description that carries the MIKEY ERR message, where one may be sent. */
  readonly body: SipBody | undefined;
  /** Seconds after which it may be tried again. */
  readonly retryAfter: number | undefined;

  constructor(
    code: string,
    message: string,
    details: {
      readonly status?: number;
      readonly warnings?: readonly SipWarning[];
      readonly reply?: Uint8Array | undefined;
      readonly retryAfter?: number;
      readonly cause?: unknown;
    } = {},
  ) {
    super(code, message, details.cause === undefined ? undefined : { cause: details.cause });
    this.status = details.status ?? 488;
    this.warnings = details.warnings ?? [{ code: 399, text: message }];
    this.retryAfter = details.retryAfter;
    this.body = details.reply === undefined ? undefined : errorBody(details.reply);
  }

  /** Complete header lines for stacks that take text: `Warning: 399 host "text"`. @param host warn-agent, a host or pseudonym */
  warningHeaders(host: string): string[] {
    return this.warnings.map(({ code, text }) => `Warning: ${code} ${agent(host)} "${quoted(text)}"`);
  }
}

/**
 * What the exchange or its text said, as SIP says it. 306 where something was not understood, and for every rekey (RFC 4567 §4.1.2);
 * 399 with the reason always.
 */
export function refusalOf(error: unknown, rekey = false): SipRefusal {
  if (error instanceof SipRefusal) return error;
  if (!(error instanceof WatchwordError)) throw error;
  const reply = error instanceof MikeyError ? error.reply : undefined;
  const status = error instanceof MikeyError ? error.status.sip : 488;
  const text: SipWarning = { code: 399, text: error.message };
  return new SipRefusal(error.code, error.message, {
    status: status >= 500 ? 488 : status,
    warnings:
      NOT_AUTHENTIC.has(error.code) && !rekey
        ? [text]
        : [{ code: 306, text: "key-mgmt attribute not understood or not acceptable" }, text],
    reply,
    cause: error,
  });
}

/** Failures that are no lack of understanding. */
const NOT_AUTHENTIC: ReadonlySet<string> = new Set(["mikey.authentication", "mikey.sdp-ids", "mikey.absent"]);

/** The smallest description that can hold a key message (RFC 4566 §5): RFC 3261 §21.4.26 lets a 488 carry one. */
function errorBody(reply: Uint8Array): SipBody {
  const lines = ["v=0", "o=- 0 0 IN IP4 0.0.0.0", "s=-", "t=0 0", `a=key-mgmt:mikey ${formatBase64(reply)}`];
  return { contentType: "application/sdp", contentDisposition: "session", content: `${lines.join("\r\n")}\r\n` };
}

function agent(host: string): string {
  return /^[A-Za-z0-9.[\]:_-]{1,255}$/.test(host) ? host : "watchword";
}

/** Characters that a quoted-string of a header takes without escape; our texts are short English. */
function quoted(text: string): string {
  return text.replace(/[^\x20\x21\x23-\x5b\x5d-\x7e]/g, "'").slice(0, 200);
}
