/** The registration exchange of a member (docs/protocol.md §12.2): octets out, verified GSAs in. */
import { equalBytes, WatchwordError } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import {
  type GroupHello,
  type GroupRegistration,
  type GsaExpectation,
  groupHelloExtensions,
  nestedMessages,
  type OpenedGsa,
  openGsa,
  readGroupHellos,
  startGroupRegistration,
  wipeGroupRegistration,
  wipeGsa,
} from "../gsa/index.js";
import {
  type Credential,
  CsMapType,
  ErrorNo,
  type Identity,
  type Initiator,
  type KeyRequest,
  MikeyPeerError,
  type PeerKey,
  type PendingExchange,
  PrfFunc,
  wipeCsb,
} from "../mikey/index.js";

export interface RegistrationOptions {
  readonly crypto: CryptoProvider;
  readonly initiator: Initiator;
  readonly credential: Credential;
  readonly identity: Identity;
  readonly gcks: Identity;
  readonly secure: boolean;
  readonly groups: readonly GroupHello[];
  /** The key server's own key, as the registration before showed it. */
  readonly knownKey: PeerKey | undefined;
  /** What a GSA is judged by, for its group. */
  readonly expectation: (group: Uint8Array) => Omit<GsaExpectation, "gcks" | "member" | "groups">;
}

/** What came of it: one GSA for each group that the key server admits to, in the order of the request. */
export interface Registered {
  readonly registration: GroupRegistration;
  readonly gsas: readonly OpenedGsa[];
  /** The key server's own key; undefined where a shared one proves who it is. */
  readonly peerKey: PeerKey | undefined;
}

const NONCE_OCTETS = 16;
/** A TGK of 256 bits (docs/protocol.md §12.2). */
const TGK: readonly KeyRequest[] = [{ kind: "TGK", length: 32 }];

/**
 * Registers: one exchange by `carry`. Nothing is installed here; where this throws, no key is left.
 * @throws (rejects) MikeyError, MikeyPeerError, CodecError; WatchwordError `member.refused` for a refusal that is proven, `gsa.…` for a GSA that is not
 *   acceptable, `member.answer` for an answer that does not fit what was asked; and what `carry` throws
 */
export async function register(
  options: RegistrationOptions,
  carry: (iMessage: Uint8Array) => Promise<Uint8Array>,
): Promise<Registered> {
  const { crypto, credential, groups } = options;
  const nonce = crypto.randomBytes(NONCE_OCTETS);
  const pending = await options.initiator.begin({
    credential,
    secure: options.secure,
    initiatorId: options.identity,
    responderId: options.gcks,
    mapType: CsMapType.EMPTY,
    cryptoSessions: [],
    policies: new Map(),
    keys: transportsKey(credential) ? TGK : [],
    prf: PrfFunc.HMAC_SHA_256,
    requestResponse: true,
    extensions: groupHelloExtensions(groups, nonce),
    ...(options.knownKey === undefined ? {} : { knownResponder: options.knownKey }),
  });
  let completed = false;
  try {
    const response = await carry(pending.octets).catch(async (error: unknown) => {
      throw finalRefusal(await verified(pending, error));
    });
    const csb = await pending.complete(response);
    completed = true;
    try {
      const granted = checkHellos(readGroupHellos(csb.exchange.responderExtensions, groups.length), groups);
      const nested = nestedMessages(csb.exchange.responderExtensions);
      if (nested.length !== granted.groups.length)
        throw answerError("the answer has another number of GSA messages than of groups");
      const started = startGroupRegistration(crypto, csb, {
        role: "member",
        secure: options.secure,
        responderNonce: granted.nonce,
      });
      const registration = started.finish(response);
      return { registration, gsas: await openAll(options, registration, granted.groups, nested), peerKey: csb.peerKey };
    } finally {
      wipeCsb(csb);
    }
  } catch (error) {
    if (!completed) pending.abandon();
    throw error;
  }
}

/** A refusal with what proves it, where something does: what carriers bring may be anybody's (RFC 3830 §5.1.2). */
async function verified(pending: PendingExchange, error: unknown): Promise<unknown> {
  if (!(error instanceof MikeyPeerError) || error.octets === undefined) return error;
  try {
    await pending.complete(error.octets);
  } catch (judged) {
    if (judged instanceof MikeyPeerError) return judged;
    if (!(judged instanceof WatchwordError)) throw judged;
  }
  return error;
}

/** Whether the Initiator has a key to send: modes that agree on one, or whose Responder makes it, have none (RFC 3830 §3.3, RFC 4738 §3). */
function transportsKey(credential: Credential): boolean {
  if ("nullKeying" in credential) throw new WatchwordError("member.credential", "a group is not joined without a credential");
  const { mode = "PSK" } = credential;
  return mode === "PSK" || mode === "PK";
}

/** The groups of the answer are some of those that were asked for, in the same order, with no more rights (docs/protocol.md §12.1, §12.2). */
function checkHellos(granted: ReturnType<typeof readGroupHellos>, asked: readonly GroupHello[]): NonNullable<typeof granted> {
  if (granted === undefined) throw answerError("the key server does not speak for groups");
  let from = 0;
  for (const { group, role } of granted.groups) {
    const at = asked.findIndex((hello, index) => index >= from && equalBytes(hello.group, group));
    const wanted = asked[at]?.role;
    if (wanted === undefined || (role.send && !wanted.send) || (role.receive && !wanted.receive))
      throw answerError("the answer grants what was not asked for");
    from = at + 1;
  }
  return granted;
}

async function openAll(
  options: RegistrationOptions,
  registration: GroupRegistration,
  granted: readonly GroupHello[],
  nested: readonly Uint8Array[],
): Promise<OpenedGsa[]> {
  const { crypto, gcks, identity } = options;
  const gsas: OpenedGsa[] = [];
  try {
    for (const [index, octets] of nested.entries()) {
      const { group, role } = granted[index] as GroupHello;
      const gsa = await openGsa(crypto, registration.downKey, octets, {
        gcks,
        member: identity,
        groups: [group],
        ...options.expectation(group),
      });
      gsas.push(gsa);
      const stated = gsa.policies.group.member?.role;
      if (stated?.send !== role.send || stated.receive !== role.receive) throw answerError("HELLO and GSA grant different roles");
    }
    return gsas;
  } catch (error) {
    for (const gsa of gsas) wipeGsa(gsa);
    wipeGroupRegistration(registration);
    throw error;
  }
}

function answerError(detail: string): WatchwordError {
  return new WatchwordError("member.answer", detail);
}

/** Numbers by which a key server says that this member is none, and will be none however often it asks (docs/protocol.md §22). */
const FINAL: ReadonlySet<number> = new Set([ErrorNo.UNKNOWN_GROUP, ErrorNo.NOT_A_MEMBER]);

/**
 * `member.refused` in place of an error by which the key server refuses this member, and proves that it was the key server who said so; every other error as
 * it is. What anybody could have sent ends nothing.
 */
function finalRefusal(error: unknown): unknown {
  if (!(error instanceof MikeyPeerError) || !error.report.authenticated) return error;
  if (!error.report.errorNos.some((number) => FINAL.has(number))) return error;
  return new WatchwordError("member.refused", `the key server does not have us in the group: ${error.message}`, { cause: error });
}
