import { WatchwordError } from "../bytes/index.js";
import type { KeyedMedia, OfferTerms, StreamProposal } from "../gsa/index.js";
import { decodeMessage, initiatorNamedIn, MikeyError } from "../mikey/index.js";
import type { SdpSection } from "../sdp/index.js";
import type { SrtpPolicy } from "../srtp/index.js";
import type { DialogFacts, SipKeyingOptions } from "./contracts.js";
import type { DescribedLine, DescribedMessage } from "./description.js";
import type { AnsweredPart, OfferedPart } from "./exchange.js";
import { namesParty, sipIdentity } from "./party.js";
import { SipRefusal } from "./refusal.js";

/** What the dialogs of one user agent share. */
export interface Endpoint {
  readonly options: SipKeyingOptions;
  /** Keeps the media of an answered call that ended before it was confirmed. */
  park(scope: string, section: SdpSection, media: KeyedMedia): void;
  /** The media that a repeated key message keyed the first time. */
  unpark(scope: string, section: SdpSection): KeyedMedia | undefined;
  /** How offers to parties that refused one differ from those to others. */
  readonly terms: Map<string, OfferTerms>;
}

/** The keyed media of one section of the descriptions. */
export interface Group {
  readonly media: KeyedMedia;
  /** m= lines by place in `media.streams`. */
  readonly lines: readonly number[];
}

const DEFAULT_POLICY: SrtpPolicy = { suite: "AES_CM_128_HMAC_SHA1_80" };

/** What is proposed to a party: what it named when it refused something else, or our first choice. */
export function proposedPolicy({ options, terms }: Endpoint, remote: string): SrtpPolicy {
  const [suite] = options.keying.options.policy?.suites ?? [];
  return terms.get(remote)?.policy ?? options.policy ?? (suite === undefined ? DEFAULT_POLICY : { suite });
}

/** What tells a retried request from another one: the octets of an offer are answered again in the same scope only (docs/protocol.md §8). */
export function scopeOf({ callId, callerTag }: DialogFacts): string {
  return `${callId} ${callerTag}`;
}

/**
 * The sections that an offer has key messages in: those that are there get a renewal; m= lines that none of them covers get messages of
 * their own.
 */
export function sectionsToOffer(
  lines: readonly DescribedLine[],
  held: readonly SdpSection[],
  level: "session" | "media",
): readonly SdpSection[] {
  if (held.length === 0 && level === "session") return lines.length === 0 ? [] : ["session"];
  if (held.includes("session")) return held;
  const uncovered = lines.filter(({ index, rejected }) => !rejected && !held.includes(index)).map(({ index }) => index);
  return [...held, ...uncovered];
}

/** What an offer says in one section. */
export interface PartRequest {
  readonly section: SdpSection;
  readonly lines: readonly DescribedLine[];
  readonly sdpIds: readonly string[];
  readonly saysHello: boolean;
}

/**
 * Makes the key message of one section of an offer: the first one, or one that renews the keys of `group`.
 * @throws WatchwordError `sip.credential`, those of `MediaKeying.offer` and `KeyedMedia.startRenewal`
 */
export async function offerPart(
  endpoint: Endpoint,
  facts: DialogFacts,
  { section, lines, sdpIds, saysHello }: PartRequest,
  group: Group | undefined,
): Promise<OfferedPart> {
  const covered = section === "session" ? lines.map(({ index }) => index) : [section];
  const { options } = endpoint;
  const policy = proposedPolicy(endpoint, facts.remote);
  const proposal = (index: number): StreamProposal => ({ policy, ssrc: facts.ssrcFor?.(index) ?? 0 });
  if (group !== undefined) {
    const added = covered.slice(group.media.streams.length).map(proposal);
    const renewal = await group.media.startRenewal({ added, sdpIds });
    return {
      section,
      lines: covered,
      octets: renewal.octets,
      accept: async (answer) => {
        await renewal.complete(answer);
        return group.media;
      },
      abandon: () => renewal.abandon(),
    };
  }
  const { keying } = options;
  const credential = options.credentialFor(facts.remote);
  if (credential === undefined) {
    throw new WatchwordError("sip.credential", "there is no credential for the party that is called");
  }
  const offer = await keying.offer({
    credential,
    streams: covered.map(proposal),
    secure: facts.secure ?? false,
    sdpIds,
    peerAnnounced: saysHello,
    // A lone ID would be taken for the Initiator's (RFC 3830 §3.1).
    ...(keying.options.identity === undefined ? {} : { responderId: sipIdentity(facts.remote) }),
  });
  return {
    section,
    lines: covered,
    octets: offer.octets,
    ...(offer.privateNumbers === undefined ? {} : { privateNumbers: offer.privateNumbers }),
    accept: (answer) => offer.accept(answer),
    fork: (answer) => offer.fork(answer),
    abandon: () => offer.abandon(),
  };
}

/**
 * Verifies the key message of one section of an offer.
 * @param keysLines whether an m= line of the offer is keyed by it
 * @returns undefined where nothing is keyed by it and it wants no response
 * @throws SipRefusal; MikeyError (with the ERR message in `reply`); CodecError
 */
export async function answerPart(
  endpoint: Endpoint,
  facts: DialogFacts,
  message: DescribedMessage,
  keysLines: boolean,
  group: Group | undefined,
): Promise<AnsweredPart | undefined> {
  const { section, lines, octets, protocols: sdpIds } = message;
  const scope = `${scopeOf(facts)} ${section}`;
  const ssrcs = lines.map((index) => facts.ssrcFor?.(index) ?? 0);
  const nothing = (): void => undefined;
  if (group !== undefined) {
    const { media } = group;
    const renewal = await media.acceptRenewal(octets, { streamCount: lines.length, ssrcs, scope, sdpIds });
    const { response } = renewal;
    if (renewal.kind !== "new") return { section, lines, media, response, commit: nothing, rollback: nothing };
    return { section, lines, media, response, commit: () => renewal.commit(), rollback: () => renewal.rollback() };
  }
  checkCaller(octets, facts);
  const { keying } = endpoint.options;
  const secure = facts.secure ?? false;
  const answer = await keying.answer(octets, { secure, ssrcs, scope, sdpIds, peerId: sipIdentity(facts.remote) });
  const { response } = answer;
  const media = answer.kind === "new" ? answer.media : endpoint.unpark(scopeOf(facts), section);
  if (media === undefined) throw new MikeyError("mikey.replay", "the key message was answered before, for a call that has gone");
  if (keysLines) {
    const rollback = (): void => endpoint.park(scopeOf(facts), section, media);
    return { section, lines, media, response, commit: nothing, rollback };
  }
  // Nothing is keyed by it, but it had to be processed (RFC 4567 §4.1.2).
  media.close();
  return response === undefined ? undefined : { section, lines: [], media, response, commit: nothing, rollback: nothing };
}

/**
 * Who calls is who the keys say: otherwise anyone with a credential could call under another's name. Where the message names no Initiator, From is the
 * identity that it has to be authentic for.
 */
function checkCaller(octets: Uint8Array, { remote }: DialogFacts): void {
  const caller = initiatorNamedIn(decodeMessage(octets, { trailing: "keep" }));
  if (caller === undefined || namesParty(caller, remote)) return;
  throw new SipRefusal("sip.identity", "the key message is of another party than the request");
}
