/** error: no receiver should take it. warning: some refuse it or read it differently. info: worth knowing. */
export type Severity = "error" | "warning" | "info";

/** Something to say about a message, with a stable code (docs/errors.md). */
export interface Problem {
  readonly code: string;
  readonly severity: Severity;
  /** What it is about, as in the octet map: `mikey.SP.params[3]`. */
  readonly path: string;
  readonly message: string;
}

/** Where a message was found and what stood around it. */
export interface Found {
  /** For people: `line 14: a=key-mgmt, media 0`. */
  readonly where: string;
  /** Undefined where the text around it is malformed; `problems` says how. */
  readonly octets: Uint8Array | undefined;
  readonly problems: readonly Problem[];
  /** Key management protocols listed beside it in the same SDP level, itself included. */
  readonly protocols?: readonly string[];
}
