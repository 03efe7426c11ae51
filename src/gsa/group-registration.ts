/** The registration SA between a member and a key server (docs/protocol.md §12), as data that can be stored. */
import { equalBytes, parseHex, utf8, WatchwordError, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import {
  type Csb,
  decodeHello,
  ExtensionType,
  encodeHello,
  type GeneralExtensionPayload,
  type Identity,
  IdType,
  PROTOCOL_VERSION,
  PrfFunc,
  sameIdentity,
} from "../mikey/index.js";
import { exchangeSecret, identitiesIn } from "./exchange-registration.js";
import { type MemberRole, roleBits, roleOf } from "./group-policy.js";
import { ntp64, type ProofParty } from "./proof.js";
import { deriveRegistrationRoot, proofParty, type RequestFacts, transcriptOf } from "./registration.js";

/** Plain data: what is left of the exchange. Both ends have the same, but for `role`. */
export interface GroupRegistration {
  readonly role: "member" | "gcks";
  readonly gcks: Identity;
  readonly member: Identity;
  /** Whether the member sent the I_MESSAGE. */
  readonly memberInitiated: boolean;
  /** CSB ID and PRF func of the exchange, not of a group. */
  readonly csbId: number;
  readonly prfFunc: number;
  /** Greatest T of the exchange, as 64 bits of NTP. */
  readonly t: bigint;
  /** TH. */
  readonly transcript: Uint8Array;
  /** K_pop. */
  readonly proofKey: Uint8Array;
  /** K_down, the pre-shared key of GSA messages. */
  readonly downKey: Uint8Array;
  /** K_up, the pre-shared key of reports. */
  readonly upKey: Uint8Array;
}

/** A registration before the response is made: the key server needs K_down for what goes into the response. */
export interface StartedRegistration {
  readonly downKey: Uint8Array;
  /** @param response the complete R_MESSAGE, or what takes its place; empty where none was sent */
  finish(response: Uint8Array): GroupRegistration;
  /** Where nothing comes of it. */
  abandon(): void;
}

/** What is known of the exchange beside its CSB. */
export interface StartRequest {
  readonly role: GroupRegistration["role"];
  /** Whether TLS protects the channel end to end: only then NULL keying has a secret (docs/protocol.md §5). */
  readonly secure: boolean;
  /** Nonce of the HELLO in the response; empty where the GSA rides in the I_MESSAGE (docs/protocol.md §12.3). */
  readonly responderNonce: Uint8Array;
}

/**
 * Derives the keys of a registration from an exchange (docs/protocol.md §5, §12.4).
 * @throws WatchwordError `gsa.registration` where an identity is missing, or there is no secret; MikeyError `mikey.repeating-key`
 */
export function startGroupRegistration(crypto: CryptoProvider, csb: Csb, request: StartRequest): StartedRegistration {
  const { exchange } = csb;
  const secret = exchangeSecret(csb, request.secure);
  if (secret === undefined) throw registrationError("NULL keying in the clear has no secret to register with");
  const ids = identitiesIn(exchange.request);
  const initiator = ids[0];
  const responder = ids[1] ?? identitiesIn(exchange.response)[0] ?? csb.responderId;
  // A message with a certificate in place of IDi has IDr first.
  const misplaced = csb.initiatorId !== undefined && !sameIdentity(initiator, csb.initiatorId);
  if (initiator === undefined || responder === undefined || misplaced) throw registrationError("an identity is missing");
  const memberInitiated = (csb.role === "initiator") === (request.role === "member");
  const facts: RequestFacts = {
    dataType: exchange.dataType,
    csbId: csb.csbId,
    prfFunc: csb.prf,
    rand: csb.rand,
    t: exchange.timestamp.value,
    initiatorId: initiator.data,
    responderId: responder.data,
    initiatorNonce: nonceOf(exchange.initiatorExtensions),
    responderNonce: request.responderNonce,
  };
  const [member, gcks] = memberInitiated ? [initiator, responder] : [responder, initiator];
  return started(crypto, facts, exchange.request, secret, { role: request.role, member, gcks, memberInitiated });
}

/** A registration SA that comes from a file instead of an exchange (docs/protocol.md §12.5). */
export interface ProvisionedRegistration {
  /** 16 octets, unique. */
  readonly id: Uint8Array;
  /** 32 octets. */
  readonly secret: Uint8Array;
  readonly gcks: string;
  readonly member: string;
  readonly groups: readonly Uint8Array[];
}

/**
 * Reads the JSON text of a provisioned registration SA.
 * @throws WatchwordError `gsa.registration`, CodecError `bytes.hex`
 */
export function parseProvisionedRegistration(text: string): ProvisionedRegistration {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new WatchwordError("gsa.registration", "a provisioned registration is a JSON object", { cause });
  }
  const object = (typeof value === "object" && value !== null ? value : {}) as Readonly<Record<string, unknown>>;
  const { watchword, version, id, secret, gcks, member, groups } = object;
  if (watchword !== "registration" || version !== PROTOCOL_VERSION)
    throw registrationError("no provisioned registration of version 1");
  if (typeof id !== "string" || typeof secret !== "string" || typeof gcks !== "string" || typeof member !== "string")
    throw registrationError("id, secret, gcks and member are texts");
  if (!Array.isArray(groups) || groups.length === 0 || !groups.every((group) => typeof group === "string"))
    throw registrationError("groups is a list of texts");
  const provisioned = {
    id: parseHex(id, "id"),
    secret: parseHex(secret, "secret"),
    gcks,
    member,
    groups: groups.map((group: string) => parseHex(group, "groups")),
  };
  if (provisioned.id.length !== 16 || provisioned.secret.length !== 32) throw registrationError("id has 16 octets and secret 32");
  return provisioned;
}

/** Data type in `bind` of a provisioned registration: no message has it. */
const PROVISIONED = 255;

/** The registration SA from a file (docs/protocol.md §12.5). @throws MikeyError `mikey.repeating-key` */
export function provisionedRegistration(
  crypto: CryptoProvider,
  provisioned: ProvisionedRegistration,
  role: GroupRegistration["role"],
): GroupRegistration {
  const identity = (text: string): Identity => ({ idType: IdType.URI, data: utf8(text) });
  const nothing = new Uint8Array(0);
  const facts: RequestFacts = {
    dataType: PROVISIONED,
    csbId: 0,
    prfFunc: PrfFunc.HMAC_SHA_256,
    rand: provisioned.id,
    t: nothing,
    initiatorId: utf8(provisioned.member),
    responderId: utf8(provisioned.gcks),
    initiatorNonce: nothing,
    responderNonce: nothing,
  };
  const parties = { role, member: identity(provisioned.member), gcks: identity(provisioned.gcks), memberInitiated: true };
  return started(crypto, facts, provisioned.id, provisioned.secret, parties).finish(nothing);
}

/** Overwrites the keys. */
export function wipeGroupRegistration({ proofKey, downKey, upKey }: GroupRegistration): void {
  wipe(proofKey, downKey, upKey);
}

/** What proofs under a registration have in common (docs/protocol.md §19). */
export function groupProofParty(registration: GroupRegistration): ProofParty {
  const { csbId, prfFunc, member, gcks, memberInitiated, transcript, proofKey } = registration;
  const initiates = memberInitiated === (registration.role === "member");
  return {
    ...proofParty({
      csbId,
      prfFunc,
      initiatorId: (memberInitiated ? member : gcks).data,
      responderId: (memberInitiated ? gcks : member).data,
      role: initiates ? "initiator" : "responder",
    }),
    transcript,
    proofKey,
  };
}

function started(
  crypto: CryptoProvider,
  facts: RequestFacts,
  request: Uint8Array,
  secret: Uint8Array,
  parties: Pick<GroupRegistration, "role" | "member" | "gcks" | "memberInitiated">,
): StartedRegistration {
  const root = deriveRegistrationRoot(crypto, facts, secret);
  const downKey = root.downKey();
  return {
    downKey,
    finish(response) {
      const transcript = transcriptOf(crypto, request, response);
      const registration: GroupRegistration = {
        ...parties,
        csbId: facts.csbId,
        prfFunc: facts.prfFunc,
        t: ntp64(facts.t),
        transcript,
        proofKey: root.proofKey(transcript),
        downKey,
        upKey: root.upKey(),
      };
      root.wipe();
      return registration;
    },
    abandon() {
      root.wipe();
      wipe(downKey);
    },
  };
}

/** A group that a HELLO names, with the role that is wanted, or in an answer granted. */
export interface GroupHello {
  readonly group: Uint8Array;
  readonly role: MemberRole;
}

/** One HELLO for each group, all with the same nonce (docs/protocol.md §12.2). @param nonce 16 octets */
export function groupHelloExtensions(groups: readonly GroupHello[], nonce: Uint8Array): GeneralExtensionPayload[] {
  return groups.map(({ group, role }) => ({
    kind: "EXT",
    extType: ExtensionType.HELLO,
    data: encodeHello({ version: PROTOCOL_VERSION, nonce, group, role: roleBits(role) }),
  }));
}

/** The HELLOs of a message. */
export interface GroupHellos {
  readonly nonce: Uint8Array;
  readonly groups: readonly GroupHello[];
}

/**
 * The groups that a message says HELLO to; undefined where it names none, so that it is no registration for a group.
 * @throws WatchwordError `gsa.registration` for HELLOs that contradict each other; CodecError
 */
export function readGroupHellos(extensions: readonly GeneralExtensionPayload[], most: number): GroupHellos | undefined {
  const hellos = extensions.filter(({ extType }) => extType === ExtensionType.HELLO).map(({ data }) => decodeHello(data));
  const [first] = hellos;
  if (first === undefined || hellos.every(({ group }) => group.length === 0)) return undefined;
  if (hellos.length > most) throw registrationError(`${hellos.length} groups, at most ${most} in one registration`);
  const groups = hellos.map(({ version, nonce, group, role: bits }) => {
    const role = bits === undefined ? undefined : roleOf(bits);
    if (version !== PROTOCOL_VERSION || role === undefined || !equalBytes(nonce, first.nonce))
      throw registrationError("the HELLOs do not fit each other");
    return { group, role };
  });
  if (groups.some(({ group }, index) => groups.findIndex((other) => equalBytes(other.group, group)) !== index))
    throw registrationError("two HELLOs name one group");
  return { nonce: first.nonce, groups };
}

/** A complete message inside another one (docs/protocol.md §12.3). */
export function nestedMessageExtension(octets: Uint8Array): GeneralExtensionPayload {
  return { kind: "EXT", extType: ExtensionType.NESTED_MESSAGE, data: octets };
}

/** The messages nested in a message, in order. */
export function nestedMessages(extensions: readonly GeneralExtensionPayload[]): Uint8Array[] {
  return extensions.filter(({ extType }) => extType === ExtensionType.NESTED_MESSAGE).map(({ data }) => data);
}

function nonceOf(extensions: readonly GeneralExtensionPayload[]): Uint8Array {
  const hello = extensions.find(({ extType }) => extType === ExtensionType.HELLO);
  return hello === undefined ? new Uint8Array(0) : decodeHello(hello.data).nonce;
}

function registrationError(detail: string): WatchwordError {
  return new WatchwordError("gsa.registration", detail);
}
