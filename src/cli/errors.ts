import { CommanderError } from "commander";
import { WatchwordError } from "../bytes/index.js";
import { CertificateError } from "../crypto/index.js";
import { UsageError } from "./options.js";

/** What a user can do about an error, where the error itself cannot know it. */
const ADVICE: Readonly<Record<string, string>> = {
  "mikey.authentication":
    "check that both ends have the same key under the same name (--psk), or that --ca vouches for who the other one has to be (--key)",
  "mikey.certificate": "mode pk needs the other party's certificate: --peer-cert",
  "mikey.data-type": "the two ends do not take the same --mode",
  "mikey.null-keying": "use rtsps://, or give --psk, or, on a network that you trust, --allow-null-keying",
  "mikey.policy-parameter": "the two ends do not agree on a suite; see --suite",
  "rtsp.key-mgmt": "the stream announces SRTP without MIKEY keys; with --psk or --key we propose them",
  "rtsp.plain-refused": "the server does not protect this stream; any RTSP player can play it",
  "rtsp.status-401": "give --user NAME:PASSWORD",
  "rtsp.unauthorized": "check --user",
  "rtsp.status-403": "the server expects keys that this client did not send; check --psk or --key, --mode and --profile",
  "rtsp.status-404": "check the path",
  "rtsp.status-453": "the server has as many sessions as it takes",
  "rtsp.status-461": "try another --transport",
  "rtsp.status-466": "the server refused the keys; check --psk or --key, --mode, and both clocks",
  "rtsp.status-463": "the server refused the keys; check --psk or --key, --mode, --profile, and both clocks",
  "sip.credential": "give the key that is shared with this party: --psk WHO:HEX, or default:HEX for anybody",
  "node.sip-status-401": "give --user NAME:PASSWORD, or check it",
  "node.sip-status-403": "the SIP server does not let us; check --user and --address",
  "node.sip-status-404": "nobody has this address there; the user name has to be the other party's",
  "node.sip-status-407": "give --user NAME:PASSWORD, or check it",
  "node.sip-status-408": "nobody answers there; check the address, --proxy and --transport",
  "node.sip-status-480": "the other party is not registered, or does not answer",
  "node.sip-status-486": "the other party is busy",
  "node.sip-status-488": "the other party refused the keys; check --psk or --key, --mode and --suite at both ends, and both clocks",
  "node.sip-status-503": "the other party, or the SIP server, cannot be reached",
  "node.certificate-untrusted": "name the issuer with --ca FILE; --insecure takes any certificate",
};

/** One line for a person: what went wrong, what to do about it, and the code to look up in docs/errors.md. */
export function describeError(error: unknown): string {
  if (!(error instanceof WatchwordError)) return error instanceof Error ? error.message : String(error);
  if (error instanceof CertificateError) return describeRefusal(error);
  const advice = ADVICE[error.code];
  return `${error.message}${advice === undefined ? "" : ` - ${advice}`} [${error.code}]`;
}

/** An error as `--json` says it, in every command. */
export interface ErrorObject {
  /** docs/errors.md. */
  readonly code: string;
  /** For people. */
  readonly message: string;
}

export function errorObject(error: unknown): ErrorObject {
  const code = error instanceof WatchwordError ? error.code : isUsage(error) ? "cli.usage" : "cli.unexpected";
  return { code, message: describeError(error) };
}

/** Whether it was asked for what cannot be. */
function isUsage(error: unknown): boolean {
  return error instanceof UsageError || error instanceof CommanderError;
}

/** Who is refused for good is told apart, so that nobody starts it again and again. */
export function exitCodeOf(error: unknown): number {
  if (isUsage(error)) return 2;
  return error instanceof WatchwordError && error.code === "member.refused" ? 3 : 1;
}

/** A failure that is in the last object of `--json` already, with what else that says. */
export class ReportedError extends Error {
  override readonly name = "ReportedError";
  override readonly cause: unknown;

  constructor(cause: unknown) {
    super("reported");
    this.cause = cause;
  }
}

/** What only the person at this end may learn. */
function describeRefusal({ message, reason, detail, code }: CertificateError): string {
  // The detail may hold names of the peer's choice.
  const named = detail === "" ? "" : ` (${detail.replace(/[^ -~]/g, "?")})`;
  return `${message}: ${reason}${named} [${code}]`;
}
