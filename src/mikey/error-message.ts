import type { CryptoProvider } from "../crypto/index.js";
import type { SrtpPolicy } from "../srtp/index.js";
import { decodeMessage, encodeMessage } from "./codec.js";
import { authenticationError, MikeyError } from "./errors.js";
import type { MessageKeys } from "./keys.js";
import type { DecodedMessage, Header, Payload } from "./message.js";
import { checkGrammar, type Grammar, payloadsOf } from "./modes/grammar.js";
import { encodeWithV, verifyV } from "./modes/mac.js";
import { encodeSigned, type Signing } from "./modes/signature.js";
import { CsMapType, DataType, ErrorNo, nameOf, ProtType, titleOf } from "./registry.js";
import { srtpPolicyOf, srtpPolicyParams } from "./srtp-policy.js";
import type { Timestamp } from "./timestamp.js";
import { createToleranceUse } from "./tolerances.js";

/** HDR, T, {ERR}, {SP}, [V|SIGNr] (RFC 3830 §5.1.2). */
const ERROR_GRAMMAR: Grammar = {
  counts: { T: [1, 1], ERR: [1, 16], SP: [0, 64], EXT: [0, 16], V: [0, 1], SIGN: [0, 1], SIGNX: [0, 1] },
};

/** What may authenticate it. */
const PROOFS = ["V", "SIGN", "SIGNX"] as const;

export interface ErrorMessageOptions {
  /** Policies that are supported instead, for errors 9 and 10 (RFC 3830 §5.1.1). */
  readonly supported?: readonly SrtpPolicy[];
  /** Authenticates the message; left out where authentication is what failed (§5.1.2). */
  readonly keys?: MessageKeys | undefined;
  readonly macAlg?: number;
}

/**
 * An ERR message: version, PRF func and CSB ID of the message that failed, its T, V flag 0 (RFC 6043 §5.4; RFC 3830 §5.2: a
 * Responder makes no timestamp of its own). V, where there is one, covers the message alone: identities and T stand behind
 * verification messages only.
 */
export function encodeErrorMessage(
  crypto: CryptoProvider,
  failed: Pick<Header, "prf" | "csbId">,
  timestamp: Timestamp,
  errorNo: number,
  options: ErrorMessageOptions = {},
): Uint8Array {
  const { header, payloads } = errorParts(failed, timestamp, errorNo, options);
  return options.keys === undefined || options.macAlg === undefined
    ? encodeMessage({ header, payloads })
    : encodeWithV(crypto, header, payloads, options.macAlg, options.keys, []);
}

/** The same under a signature: HDR, T, {ERR}, {SP}, SIGNr (RFC 3830 §5.1.2). */
export function encodeSignedErrorMessage(
  crypto: CryptoProvider,
  signing: Signing,
  failed: Pick<Header, "prf" | "csbId">,
  timestamp: Timestamp,
  errorNo: number,
  options: Pick<ErrorMessageOptions, "supported"> = {},
): Promise<Uint8Array> {
  const { header, payloads } = errorParts(failed, timestamp, errorNo, options);
  return encodeSigned(crypto, signing, header, payloads);
}

function errorParts(
  failed: Pick<Header, "prf" | "csbId">,
  timestamp: Timestamp,
  errorNo: number,
  { supported = [] }: ErrorMessageOptions,
): { readonly header: Header; readonly payloads: readonly Payload[] } {
  const wantsPolicies = errorNo === ErrorNo.INVALID_SP || errorNo === ErrorNo.INVALID_SP_PAR;
  return {
    header: {
      version: 1,
      dataType: DataType.ERROR,
      verificationRequested: false,
      prf: failed.prf,
      csbId: failed.csbId,
      csMap: { type: CsMapType.SRTP_ID, entries: [] },
    },
    payloads: [
      { kind: "T", tsType: timestamp.tsType, value: timestamp.value },
      { kind: "ERR", errorNo, reserved: 0 },
      ...(wantsPolicies ? supported : []).map(
        (policy, policyNo): Payload => ({ kind: "SP", policyNo, protType: ProtType.SRTP, params: srtpPolicyParams(policy) }),
      ),
    ],
  };
}

/** What an ERR message says. */
export interface ErrorReport {
  readonly errorNos: readonly number[];
  /** What the peer supports instead, as far as it is understood here. */
  readonly policies: readonly SrtpPolicy[];
  /** False: anybody may have sent it. It is a hint and ends nothing that is established (RFC 3830 §5.1.2). */
  readonly authenticated: boolean;
}

/** The peer refused. */
export class MikeyPeerError extends MikeyError {
  override readonly name: string = "MikeyPeerError";
  readonly report: ErrorReport;
  /** The ERR message, where nothing was known yet that could verify it. */
  readonly octets: Uint8Array | undefined;

  constructor(report: ErrorReport, octets?: Uint8Array) {
    const what = report.errorNos
      .map((errorNo) => `${errorNo} ${nameOf(ErrorNo, errorNo)} (${titleOf(ErrorNo, errorNo)})`)
      .join(", ");
    super("mikey.peer-error", `the peer answered with MIKEY error ${what}${report.authenticated ? "" : ", unauthenticated"}`);
    this.report = report;
    this.octets = octets;
  }
}

/** What an ERR message can be verified with: the keys of the request that it answers, or the Responder's key. */
export interface ErrorProof {
  readonly keys: MessageKeys | undefined;
  readonly macAlg: number;
  readonly verifySignature: (() => Promise<boolean>) | undefined;
}

/**
 * Reads a decoded ERR message and verifies what authenticates it, where that is possible.
 * @throws MikeyError `mikey.grammar`; `mikey.authentication` where it has a V or a signature that is wrong
 */
export async function readErrorMessage(crypto: CryptoProvider, message: DecodedMessage, proof: ErrorProof): Promise<ErrorReport> {
  const report = unverifiedError(message);
  const kind = message.payloads.at(-1)?.kind;
  if (kind === "V" && proof.keys !== undefined) {
    verifyV(crypto, message, proof.macAlg, proof.keys, []);
    return { ...report, authenticated: true };
  }
  if ((kind === "SIGN" || kind === "SIGNX") && proof.verifySignature !== undefined) {
    if (!(await proof.verifySignature())) throw authenticationError();
    return { ...report, authenticated: true };
  }
  return report;
}

/** What a decoded ERR message says, as anybody may have sent it. @throws MikeyError `mikey.grammar` */
export function unverifiedError(message: DecodedMessage): ErrorReport {
  const proven = message.payloads.some(({ kind }) => (PROOFS as readonly string[]).includes(kind));
  checkGrammar(message, proven ? { ...ERROR_GRAMMAR, last: PROOFS } : ERROR_GRAMMAR);
  const policies = payloadsOf(message, "SP").flatMap(({ protType, params }) => {
    try {
      return protType === ProtType.SRTP ? [srtpPolicyOf(params, createToleranceUse([]))] : [];
    } catch (error) {
      if (error instanceof MikeyError) return [];
      throw error;
    }
  });
  return { errorNos: payloadsOf(message, "ERR").map(({ errorNo }) => errorNo), policies, authenticated: false };
}

/**
 * The error that an ERR message on its own means, e.g. in the KeyMgmt header of a 463: never authenticated, because nothing
 * is known that could verify it. Undefined where the octets are another message.
 * @throws CodecError; MikeyError `mikey.grammar`
 */
export function peerErrorOf(octets: Uint8Array): MikeyPeerError | undefined {
  const message = decodeMessage(octets);
  if (message.header.dataType !== DataType.ERROR) return undefined;
  return new MikeyPeerError(unverifiedError(message), octets.slice());
}
