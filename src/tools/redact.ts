/** Takes keys out of text that goes to a log or an issue. */

interface Rule {
  readonly pattern: RegExp;
  /** Group 1 is kept, the rest of the match is the secret. */
  readonly keep: boolean;
}

/** What may carry a key in SDP, RTSP and SIP, and by itself. The patterns need no backtracking over the secret. */
const RULES: readonly Rule[] = [
  // RFC 4567: a=key-mgmt, KeyMgmt data, ONVIF's mikey parameter, RTSP 2.0's MIKEY transport parameter.
  { pattern: /(key-mgmt:[ \t]*[A-Za-z0-9]+[ \t]+)[A-Za-z0-9+/=]+/g, keep: true },
  { pattern: /(\bdata[ \t]*=[ \t]*"?)[A-Za-z0-9+/=][A-Za-z0-9+/= \t]*/gi, keep: true },
  { pattern: /(\bmikey[ \t]*[:=][ \t]*"?)[A-Za-z0-9+/=]+/gi, keep: true },
  // RFC 4568 §6.1.
  { pattern: /(\binline:)[A-Za-z0-9+/=]+/g, keep: true },
  // RFC 2617, RFC 6750: passwords and what proves them.
  { pattern: /(\b(?:Basic|Bearer)[ \t]+)[\w.~+/=-]+/gi, keep: true },
  { pattern: /(\bresponse[ \t]*=[ \t]*"?)[0-9a-fA-F]{32,}/gi, keep: true },
  // An @ in a password should be written %40, and is not always.
  { pattern: /(:\/\/[^\s/:@]*:)[^\s/]+(?=@)/g, keep: true },
  // ID:HEX and NAME:PASSWORD as options take them, and long hexadecimal words: keys by themselves.
  { pattern: /(--(?:psk|user|publish-user)[= \t]+[^\s:]*:)\S+/g, keep: true },
  { pattern: /\b[0-9a-fA-F]{32,}\b/g, keep: false },
  // A message in base64 begins with the version 1 and a data type: AQ. What fills a whole line may be the rest of one.
  { pattern: /\bAQ[A-Za-z0-9+/]{14,}={0,2}/g, keep: false },
  { pattern: /^([ \t]*)[A-Za-z0-9+/]{24,}={0,2}(?=[ \t]*\r?$)/gm, keep: true },
];

/**
 * The text with keys, passwords and everything that may hold one replaced by `[redacted]`. It errs on the side of hiding:
 * long hexadecimal or base64 words go even where they are something else. Linear in the length of the text.
 */
export function redact(text: string): string {
  let redacted = text;
  for (const { pattern, keep } of RULES) {
    redacted = redacted.replaceAll(pattern, (_match, kept: string) => (keep ? `${kept}[redacted]` : "[redacted]"));
  }
  return redacted;
}
