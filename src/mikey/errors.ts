import { WatchwordError } from "../bytes/index.js";
import { ErrorNo } from "./registry.js";

/** What a carrier answers: SIP status, RTSP 1.0 status (RFC 4567 §4.1.2, §4.2; RFC 7826 has 466 where RTSP 1.0 has 463). */
export interface CarrierStatus {
  readonly sip: number;
  readonly rtsp: number;
}

interface ErrorRow {
  readonly meaning: string;
  /** The ERR number that says it (RFC 3830 §6.12); absent where nothing may or can be said. */
  readonly errorNo?: number;
  readonly status: CarrierStatus;
}

/** 488 Not Acceptable Here; 463 Key Management Failure. */
const FAILURE: CarrierStatus = { sip: 488, rtsp: 463 };

/** Every error of an exchange: what it means, how the protocol says it, and the status that fits. */
export const MIKEY_ERRORS = {
  "mikey.authentication": {
    meaning:
      "the message is not authentic: unknown identity, wrong certificate, key, MAC, signature, padding or Diffie-Hellman value (never told apart)",
    errorNo: ErrorNo.AUTH_FAILURE,
    status: FAILURE,
  },
  "mikey.timestamp": { meaning: "the timestamp is outside the accepted clock skew", errorNo: ErrorNo.INVALID_TS, status: FAILURE },
  "mikey.replay": {
    meaning: "the timestamp was used before, or is not greater than the last one",
    errorNo: ErrorNo.INVALID_TS,
    status: FAILURE,
  },
  "mikey.data-type": { meaning: "the mode is not spoken, or not acceptable here", errorNo: ErrorNo.INVALID_DT, status: FAILURE },
  "mikey.grammar": {
    meaning: "a payload is missing, out of place or there too often",
    errorNo: ErrorNo.UNSPECIFIED,
    status: FAILURE,
  },
  "mikey.prf": { meaning: "the PRF function is not supported or not acceptable", errorNo: ErrorNo.INVALID_PRF, status: FAILURE },
  "mikey.mac-algorithm": {
    meaning: "the MAC algorithm is not supported or not acceptable",
    errorNo: ErrorNo.INVALID_MAC,
    status: FAILURE,
  },
  "mikey.encryption-algorithm": {
    meaning: "the key encryption algorithm is not supported or not acceptable",
    errorNo: ErrorNo.INVALID_EA,
    status: FAILURE,
  },
  "mikey.hash-function": { meaning: "the hash function is not supported", errorNo: ErrorNo.INVALID_HA, status: FAILURE },
  "mikey.group": {
    meaning: "the Diffie-Hellman group is not supported or not acceptable",
    errorNo: ErrorNo.INVALID_DH,
    status: FAILURE,
  },
  "mikey.certificate": {
    meaning:
      "a certificate is of a type that is not supported, or no key of ours, or of an authenticated peer's, does what the mode needs of it",
    errorNo: ErrorNo.INVALID_CERT,
    status: FAILURE,
  },
  "mikey.null-keying": {
    meaning: "keys without protection of their own, on a channel or path where that is not acceptable",
    errorNo: ErrorNo.INVALID_EA,
    status: FAILURE,
  },
  "mikey.identity": {
    meaning: "the message is meant for another responder, or another one answered than is acceptable",
    errorNo: ErrorNo.INVALID_ID,
    status: FAILURE,
  },
  "mikey.policy": {
    meaning: "a security policy is absent, there twice, or of an unsupported protocol",
    errorNo: ErrorNo.INVALID_SP,
    status: FAILURE,
  },
  "mikey.policy-parameter": {
    meaning: "a security policy is not accepted, or one of its parameters is unknown, repeated or has an unsupported value",
    errorNo: ErrorNo.INVALID_SP_PAR,
    status: FAILURE,
  },
  "mikey.empty-kemac": {
    meaning: "the first message of an exchange carries no key",
    errorNo: ErrorNo.UNSPECIFIED,
    status: FAILURE,
  },
  "mikey.key-data": { meaning: "the keys do not fit the policy or each other", errorNo: ErrorNo.UNSPECIFIED, status: FAILURE },
  "mikey.cs-map": { meaning: "the crypto sessions are not acceptable", errorNo: ErrorNo.UNSPECIFIED, status: FAILURE },
  "mikey.v-flag": { meaning: "a verification is requested that cannot be given", errorNo: ErrorNo.UNSPECIFIED, status: FAILURE },
  "mikey.sdp-ids": {
    meaning: "the offered key management protocols are not the ones that were authenticated (bidding down)",
    errorNo: ErrorNo.AUTH_FAILURE,
    status: FAILURE,
  },
  "mikey.unknown-csb": {
    meaning: "an update for a crypto session bundle that is not known here",
    errorNo: ErrorNo.UNSPECIFIED,
    status: FAILURE,
  },
  "mikey.unknown-group": {
    meaning: "the key server has no such group (docs/protocol.md §22)",
    errorNo: ErrorNo.UNKNOWN_GROUP,
    status: { sip: 404, rtsp: 404 },
  },
  "mikey.not-a-member": {
    meaning: "who asks may not be a member of the group, or not as what it asks for (docs/protocol.md §22)",
    errorNo: ErrorNo.NOT_A_MEMBER,
    status: { sip: 403, rtsp: 403 },
  },
  "mikey.absent": { meaning: "key management data were expected and are missing", status: { sip: 488, rtsp: 403 } },
  "mikey.peer-error": { meaning: "the peer answered with an error message", status: FAILURE },
  "mikey.response": { meaning: "the response does not belong to the pending request", status: FAILURE },
  "mikey.repeating-key": {
    meaning: "a key of equal 256-bit blocks, which the PRF would cancel",
    errorNo: ErrorNo.UNSPECIFIED,
    status: FAILURE,
  },
  "mikey.option": { meaning: "the caller asked for something that the protocol does not allow", status: { sip: 500, rtsp: 500 } },
} as const satisfies Readonly<Record<string, ErrorRow>>;

/** Code of an error of an exchange. */
export type MikeyErrorCode = keyof typeof MIKEY_ERRORS;

export interface MikeyErrorDetails {
  readonly cause?: unknown;
  /** ERR message to send, where one may be sent. */
  readonly reply?: Uint8Array | undefined;
  /**
   * False where more than the message decided, such as who its carrier says has sent it: anybody can bring that about with somebody else's message.
   * Then the ERR message is not authenticated. Default true.
   */
  readonly provable?: boolean;
}

/** Why an exchange failed. It knows how to say it: as ERR message (`reply`) and as status of the carrier. */
export class MikeyError extends WatchwordError {
  override readonly name: string = "MikeyError";
  declare readonly code: MikeyErrorCode;
  /** A complete ERR message for the peer; absent where none may be sent (an ERR is never answered, RFC 6043 §5.4). */
  readonly reply: Uint8Array | undefined;
  /** Whether the ERR message may be authenticated. */
  readonly provable: boolean;

  constructor(code: MikeyErrorCode, message: string, details: MikeyErrorDetails = {}) {
    super(code, message, details.cause === undefined ? undefined : { cause: details.cause });
    this.reply = details.reply;
    this.provable = details.provable ?? true;
  }

  /** The number for an ERR payload, where the protocol has one for this failure (RFC 3830 §6.12). */
  get errorNo(): number | undefined {
    return mikeyErrorNo(this.code);
  }

  /** The status that fits where the carrier has to answer. */
  get status(): CarrierStatus {
    return MIKEY_ERRORS[this.code].status;
  }

  /** The same error with an ERR message to send. */
  withReply(reply: Uint8Array): MikeyError {
    return new MikeyError(this.code, this.message, { cause: this.cause, reply, provable: this.provable });
  }
}

/** The number of an ERR payload for an error code (RFC 3830 §6.12), or undefined where the protocol does not say it. */
export function mikeyErrorNo(code: MikeyErrorCode): number | undefined {
  const row: ErrorRow = MIKEY_ERRORS[code];
  return row.errorNo;
}

/** The status that a carrier answers for any error that key management threw (RFC 4567 §4.1.2, §4.2). */
export function carrierStatusOf(error: unknown): CarrierStatus {
  return error instanceof MikeyError ? error.status : FAILURE;
}

/** One message for every cause, so that nobody learns which identities exist or what was wrong (RFC 3830 §5.1.2). */
export function authenticationError(): MikeyError {
  return new MikeyError("mikey.authentication", "MIKEY authentication failed");
}
