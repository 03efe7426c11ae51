/** The registration exchange at the key server (docs/protocol.md §12.2, §20.1). */
import { formatHex, utf8, utf8Text, WatchwordError } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import {
  GROUP_LIMITS,
  type GroupHello,
  type GroupRegistration,
  groupHelloExtensions,
  type MemberRole,
  nestedMessageExtension,
  readGroupHellos,
  type StartedRegistration,
  startGroupRegistration,
  wipeGroupRegistration,
} from "../gsa/index.js";
import type { Clock } from "../io/index.js";
import {
  type Csb,
  createResponder,
  DEFAULT_SKEW_MS,
  type GeneralExtensionPayload,
  type Identity,
  MikeyError,
  type PeerKey,
  type ReplayCache,
  type ReplayClaim,
  type ResponderOptions,
  wipeCsb,
} from "../mikey/index.js";
import { type Store, ttlClassFor } from "../store/index.js";
import type { CarrierPeer, RegistrationAnswer, RegistrationRequest } from "./contracts.js";
import { GcksRefusal, OVERLOAD } from "./errors.js";
import type { Group } from "./group.js";

export interface AdmissionOptions
  extends Pick<ResponderOptions, "findCredential" | "keyPairs" | "policy" | "isLocalIdentity" | "skewMs"> {
  readonly crypto: CryptoProvider;
  readonly clock: Clock;
  /** Claims against replay are durable here. */
  readonly store: Store;
  readonly identity: Identity;
  readonly groupNamed: (group: Uint8Array) => Group | undefined;
  /** Whether somebody may join any group at all. */
  readonly isKnown: (joiner: Joiner) => boolean;
  readonly roleIn: (group: Group, joiner: Joiner, peer: CarrierPeer) => Promise<Verdict>;
  /** Whether somebody has been expelled since `roleIn` was asked, which may take as long as a user thinks. */
  readonly expelledSince: (group: Group, identity: string) => Promise<boolean>;
}

/** Who registers, as the exchange proved it. */
export interface Joiner {
  readonly identity: string;
  /** What signed, and whom its certificate names; absent where a shared key proved the identity. */
  readonly peerKey?: PeerKey;
}

/** What somebody may do in a group. */
export interface Verdict {
  /** Undefined where it may not join. */
  readonly role: MemberRole | undefined;
  /** Whether a refusal follows from the message alone; what the carrier knows of its sender is not the sender's word. */
  readonly provable: boolean;
}

/** Memberships that one registration made. */
export interface Admitted {
  /** By which the message is found again. */
  readonly key: string;
  readonly response: Uint8Array;
  /** The two parties, as they were on the wire. */
  readonly gcks: Identity;
  readonly member: Identity;
  readonly memberships: readonly Membership[];
}

export interface Membership {
  readonly group: Group;
  readonly number: number;
  readonly role: MemberRole;
}

export type AdmissionResult =
  | ({ readonly kind: "new" } & Admitted)
  | { readonly kind: "repeated"; readonly answer: RegistrationAnswer };

const NONCE_OCTETS = 16;

/** What was answered, for those who did not get the answer (docs/protocol.md §12.2). */
export interface Answers {
  find(key: string, scope: string): RegistrationAnswer | undefined;
}

/**
 * Judges an I_MESSAGE and admits to the groups that it names. Everything is durable when it resolves: the claim of the message, the
 * memberships, their keys.
 * @throws (rejects) GcksRefusal, MikeyError with the ERR message in `reply`; CodecError
 */
export async function admit(options: AdmissionOptions, request: RegistrationRequest, answers: Answers): Promise<AdmissionResult> {
  const { crypto, clock, identity, findCredential, keyPairs, policy, isLocalIdentity, skewMs } = options;
  let claimed: ReplayClaim | undefined;
  let answer: RegistrationAnswer | undefined;
  let registration: GroupRegistration | undefined;
  const pending: Pending = { memberships: [], started: undefined };
  const replayCache: ReplayCache = {
    size: 0,
    check(claim) {
      claimed = claim;
      answer = answers.find(keyOf(claim), request.scope);
      return answer === undefined ? { kind: "fresh" } : { kind: "repeated", response: answer.response };
    },
    claim: () => undefined,
  };
  const responder = createResponder({
    crypto,
    clock,
    findCredential,
    identity,
    replayCache,
    ...(keyPairs === undefined ? {} : { keyPairs }),
    ...(policy === undefined ? {} : { policy }),
    ...(isLocalIdentity === undefined ? {} : { isLocalIdentity }),
    ...(skewMs === undefined ? {} : { skewMs }),
  });
  try {
    const received = await responder.receive(request.iMessage, {
      secure: request.secure,
      requirePsk: true,
      scope: request.scope,
      responseExtensions: async (csb) => {
        await claim(options, claimed);
        return join(options, request, csb, pending);
      },
    });
    if (received.kind === "repeated" && answer !== undefined) return { kind: "repeated", answer };
    if (received.kind !== "new") throw new GcksRefusal("gcks.no-group", "an update registers nobody", { sip: 488, rtsp: 463 });
    const { csb, response } = received;
    wipeCsb(csb);
    const { started } = pending;
    if (response === undefined || started === undefined)
      throw new GcksRefusal("gcks.no-group", "the message asks for no response, in which the keys would come", {
        sip: 488,
        rtsp: 463,
      });
    registration = started.finish(response);
    const { role: _role, gcks, member, ...keys } = registration;
    const bound = await Promise.allSettled(
      pending.memberships.map(({ group, number }) => group.bind(number, keys, request.channel)),
    );
    for (const result of bound) if (result.status === "rejected") throw result.reason;
    const { claim: answered } = received;
    return {
      kind: "new",
      key: answered === undefined ? "" : keyOf(answered),
      response,
      gcks,
      member,
      memberships: pending.memberships,
    };
  } catch (error) {
    pending.started?.abandon();
    // Nobody knows the keys of who was admitted and got no answer.
    await Promise.all(pending.memberships.map(({ group, number }) => group.remove([number], "removed").catch(() => undefined)));
    throw error;
  } finally {
    // The groups have copies.
    if (registration !== undefined) wipeGroupRegistration(registration);
  }
}

/** How an answered message is found again. */
function keyOf({ peer, key }: ReplayClaim): string {
  return `${peer}/${key}`;
}

interface Pending {
  readonly memberships: Membership[];
  started: StartedRegistration | undefined;
}

/** The same message is processed once, whichever controller gets it, before a crash or after (RFC 3830 §5.4). */
async function claim(
  { store, crypto, skewMs = DEFAULT_SKEW_MS }: AdmissionOptions,
  claimed: ReplayClaim | undefined,
): Promise<void> {
  if (claimed === undefined) throw new MikeyError("mikey.null-keying", "NULL keying registers nobody");
  const name = formatHex(crypto.hash("sha256", utf8(keyOf(claimed))));
  const fresh = await store.claim(`registration/${name}`, ttlClassFor(2 * skewMs));
  if (!fresh)
    throw new MikeyError(
      "mikey.replay",
      "the message was answered before, in another dialog or session, or for a membership that has ended",
    );
}

async function join(
  options: AdmissionOptions,
  request: RegistrationRequest,
  csb: Csb,
  pending: Pending,
): Promise<readonly GeneralExtensionPayload[]> {
  const { crypto } = options;
  const hellos = readGroupHellos(csb.initiatorExtensions, GROUP_LIMITS.groupsPerRegistration);
  const member = csb.initiatorId;
  if (hellos === undefined || member === undefined)
    throw new GcksRefusal("gcks.no-group", "the message names no group, or not who sends it", { sip: 488, rtsp: 463 });
  const identity = utf8Text(member.data) ?? "";
  // Rules, expulsions and what takes whose place go by names: identities that have none would all be one.
  if (identity === "") throw new MikeyError("mikey.not-a-member", "the sender has no name");
  const nonce = crypto.randomBytes(NONCE_OCTETS);
  pending.started = startGroupRegistration(crypto, csb, { role: "gcks", secure: request.secure, responderNonce: nonce });
  const joiner: Joiner = {
    identity,
    ...(csb.peerKey === undefined ? {} : { peerKey: csb.peerKey }),
  };
  const granted: { readonly group: Group; readonly role: MemberRole }[] = [];
  let provable = true;
  for (const hello of hellos.groups) {
    const group = options.groupNamed(hello.group);
    if (group === undefined) continue;
    const verdict = await options.roleIn(group, joiner, request.peer);
    const role = verdict.role === undefined ? undefined : granting(hello, verdict.role);
    if (role !== undefined) granted.push({ group, role });
    else provable &&= verdict.provable;
  }
  if (granted.length === 0) {
    // Names of groups cannot be probed: who may join no group of this key server is told the same of all (docs/protocol.md §22).
    if (options.isKnown(joiner) && hellos.groups.every(({ group }) => options.groupNamed(group) === undefined))
      throw new MikeyError("mikey.unknown-group", "there is no such group here");
    throw new MikeyError("mikey.not-a-member", "the sender may not join, or not as what it asks for", { provable });
  }
  const memberships = await Promise.allSettled(
    granted.map(async ({ group, role }) => ({
      group,
      role,
      number: await group.admit({ identity: member, role }, request.streams),
    })),
  );
  for (const result of memberships) if (result.status === "fulfilled") pending.memberships.push(result.value);
  const failed = memberships.find((result) => result.status === "rejected");
  if (failed?.reason instanceof GcksRefusal) throw failed.reason;
  if (failed !== undefined)
    throw new GcksRefusal("gcks.overload", "the group cannot be changed now", OVERLOAD, { cause: failed.reason, retryAfter: 5 });
  // Whoever expels looks for members after it is durable: either it finds the new one, or this finds out.
  for (const { group } of pending.memberships)
    if (await options.expelledSince(group, joiner.identity))
      throw new MikeyError("mikey.not-a-member", "the sender was expelled meanwhile");
  const { downKey } = pending.started;
  return [
    ...groupHelloExtensions(
      pending.memberships.map(({ group, role }) => ({ group: group.definition.group, role })),
      nonce,
    ),
    ...pending.memberships.map(({ group, number }) => nestedMessageExtension(group.gsa(number, downKey))),
  ];
}

/** What of the wanted role may be had; undefined where nothing is left. */
function granting({ role }: GroupHello, allowed: MemberRole): MemberRole | undefined {
  const granted = { send: role.send && allowed.send, receive: role.receive && allowed.receive };
  return granted.send || granted.receive ? granted : undefined;
}

/** Whether an error says how carriers answer. */
export function refusalOf(error: unknown): GcksRefusal {
  if (error instanceof GcksRefusal) return error;
  if (error instanceof MikeyError)
    return new GcksRefusal("gcks.refused", error.message, error.status, {
      cause: error,
      ...(error.reply === undefined ? {} : { reply: error.reply }),
    });
  if (error instanceof WatchwordError && (error.code.startsWith("store.") || error.code.startsWith("gcks.")))
    return new GcksRefusal("gcks.overload", "registrations cannot be made durable now", OVERLOAD, { cause: error, retryAfter: 5 });
  if (error instanceof WatchwordError)
    return new GcksRefusal("gcks.refused", error.message, { sip: 488, rtsp: 463 }, { cause: error });
  throw error;
}
