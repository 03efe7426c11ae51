import { WatchwordError } from "../bytes/index.js";
import { ErrorNo, type ErrorReport, MikeyPeerError, peerErrorOf } from "../mikey/index.js";
import { protectsEverything, type SrtpPolicy } from "../srtp/index.js";
import type { MediaOffer } from "./contracts.js";
import type { MediaKeying } from "./media-keying.js";

/** How offers to a party that refused one differ from the first. */
export interface OfferTerms {
  /** Leave HELLO out, and the numbers of docs/protocol.md §4.3 that it announces. */
  readonly withoutHello: boolean;
  /** Propose this: what was refused under another suite, which the party named and our policy lists. */
  readonly policy?: SrtpPolicy;
}

/** What was refused. */
export interface RefusedOffer {
  readonly offers: readonly { readonly privateNumbers?: MediaOffer["privateNumbers"] | undefined }[];
  readonly saidHello: boolean;
  /** On which it was made, after earlier refusals. */
  readonly terms: OfferTerms | undefined;
  /** What was proposed for its streams. */
  readonly policy: SrtpPolicy;
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

/** What a security policy is refused with (RFC 3830 §6.12). */
const ABOUT_POLICY: ReadonlySet<number> = new Set([ErrorNo.INVALID_SP, ErrorNo.INVALID_SP_PAR]);

/**
 * Whether one more offer may be taken where this one was refused, and in what it differs (RFC 3830 §5.1.1): an error that names its cause
 * has to name something that the next offer does without. Both ways lead down a list of our own, never below its end: the same answer
 * cannot be got for ever.
 *
 * - HELLO and the numbers of docs/protocol.md, unless policy needs them. Nobody has to prove the error: without them the offer is what
 *   parties get that never announced themselves.
 * - The suite: the first of our `suites` behind the refused one that the party names. Only an authenticated error says it, or anybody on
 *   the path could choose our weakest.
 *
 * @param report the ERR message, where one came
 */
export function secondOffer(keying: MediaKeying, refused: RefusedOffer, report: ErrorReport | undefined): OfferTerms | undefined {
  const causes = (report?.errorNos ?? []).filter((errorNo) => errorNo !== ErrorNo.UNSPECIFIED);
  const numbers = causes.filter((errorNo) => !ABOUT_POLICY.has(errorNo));
  const policy =
    numbers.length < causes.length && report?.authenticated === true ? lesserPolicy(keying, refused, report) : undefined;
  if (policy === undefined && numbers.length < causes.length) return undefined;
  const { terms = { withoutHello: false } } = refused;
  const next = policy === undefined ? terms : { ...terms, policy };
  if (policy !== undefined && numbers.length === 0) return next;
  return mayLeaveHelloOut(refused, numbers) ? { ...next, withoutHello: true } : undefined;
}

function mayLeaveHelloOut({ offers, saidHello }: RefusedOffer, causes: readonly number[]): boolean {
  // Policy does without them on no account.
  if (!saidHello || offers.some(({ privateNumbers }) => privateNumbers === "required")) return false;
  const hasNumbers = offers.some(({ privateNumbers }) => privateNumbers === "preferred");
  return causes.every((errorNo) => hasNumbers && ABOUT_NUMBERS.has(errorNo));
}

function lesserPolicy({ options }: MediaKeying, refused: RefusedOffer, { policies }: ErrorReport): SrtpPolicy | undefined {
  const suites = options.policy?.suites ?? [];
  // Tag lengths and what carries rollover counters go by the suite.
  const { suite: proposed, rtcpTagLength: _tag, rolloverCarrying: _carrying, ...kept } = refused.policy;
  const named = policies.filter(protectsEverything).map(({ suite }) => suite);
  return suites
    .slice(suites.indexOf(proposed) + 1)
    .filter((suite) => named.includes(suite))
    .map((suite): SrtpPolicy => ({ ...kept, suite }))
    .find((policy) => options.policyAccepted?.(policy) ?? true);
}

/**
 * What the ERR message of a refusal says, verified against the offers where it can be. Undefined where the octets are another message, or
 * damaged: that says nothing.
 */
export async function reportOfRefusal(
  offers: readonly Pick<MediaOffer, "accept">[],
  octets: Uint8Array,
): Promise<ErrorReport | undefined> {
  try {
    const unverified = peerErrorOf(octets)?.report;
    if (unverified === undefined) return undefined;
    for (const offer of offers) {
      try {
        await offer.accept(octets);
      } catch (error) {
        if (error instanceof MikeyPeerError) return error.report;
        if (!(error instanceof WatchwordError)) throw error;
      }
    }
    return unverified;
  } catch (error) {
    if (error instanceof WatchwordError) return undefined;
    throw error;
  }
}
