import { utf8, utf8Text, WatchwordError } from "../bytes/index.js";
import {
  createSharedSender,
  type ExportedKeys,
  type KeyExport,
  type MediaAnswer,
  type MediaKeying,
  type MediaOffer,
  type OfferTerms,
  type RefusedOffer,
  type StreamProposal,
  secondOffer,
} from "../gsa/index.js";
import {
  type Credential,
  DataType,
  decodeMessage,
  type ErrorReport,
  entryOf,
  type Identity,
  IdType,
  MikeyError,
  modeNameOf,
} from "../mikey/index.js";
import { isNullKeyedMessage } from "../peers/index.js";
import type { SrtpPolicy } from "../srtp/index.js";
import type {
  ClientKeying,
  ClientKeyingRequest,
  KeyingHabits,
  KeyingOutcome,
  KeyingPeer,
  KeyingStream,
  ServerKeying,
} from "./keying.js";
import { createStrangerGate, type StrangerLimits } from "./strangers.js";

/** The only key management protocol that we put into descriptions (RFC 4567 §9.3). */
const PROTOCOLS = ["mikey"] as const;

/** Finds pre-shared keys by the name of the peer. */
export interface PskDirectory {
  find(name: string): Uint8Array | undefined;
  /** The names, so that the only one is taken where the peer says none. */
  readonly names: readonly string[];
}

/** A directory of named keys. The keys stay the caller's. */
export function createPskDirectory(entries: Iterable<readonly [name: string, key: Uint8Array]>): PskDirectory {
  const keys = new Map(entries);
  return { find: (name) => keys.get(name), names: [...keys.keys()] };
}

/** The identity of a named peer in ID payloads: a network access identifier (RFC 3830 §6.7). */
export function identityOf(name: string): Identity {
  return { idType: IdType.NAI, data: utf8(name) };
}

/** The name in an identity, or undefined where it is not text. */
export function nameOfIdentity(identity: Identity | undefined): string | undefined {
  return identity === undefined ? undefined : utf8Text(identity.data);
}

/** What a description offers keys under, and whom it is meant for. */
export interface MeantCredential {
  readonly credential: Credential;
  /** Absent where whoever answers proves who it is: in DH and RSA-R. */
  readonly responderId?: Identity;
}

/** How a server path is keyed. */
export interface MikeyServerKeyingOptions {
  readonly keying: MediaKeying;
  readonly policy: SrtpPolicy;
  /**
   * Sessions need a credential, and this one is offered to a client, whatever its mode; undefined where there is none for it: the client
   * has to begin. Without this member and `directory` keys are NULL-keyed and as safe as the channel.
   */
  readonly credentialFor?: (peer: KeyingPeer) => MeantCredential | undefined;
  /** In its place: sessions need a pre-shared key of this directory, and a client that none belongs to is not served. */
  readonly directory?: PskDirectory;
  /**
   * Beside a credential: offer a NULL-keyed message too, before the other, for clients that have no pre-shared key. Only where the
   * channel protects it, or where this keying allows NULL keying by name.
   */
  readonly open?: { readonly keying: MediaKeying; readonly policy: SrtpPolicy };
  readonly habits?: KeyingHabits;
  /** Where the description has the messages. With a credential and `session` one exchange keys all streams. Default `media`. */
  readonly level?: "session" | "media";
  /** Hands the SRTP master keys of every session out; `stream` is the index of the m= line. Default: they never leave. */
  readonly exportKeys?: (keys: ExportedKeys, peer: KeyingPeer) => void;
  /** Bounds offers that cost public-key operations, to clients who have not authenticated by RTSP. */
  readonly strangers?: StrangerLimits;
}

/** The keys of an exchange under the indices of the m= lines that it covers. */
function exportUnder(streams: readonly KeyingStream[], exportKeys: KeyExport | undefined): { readonly exportKeys?: KeyExport } {
  if (exportKeys === undefined) return {};
  return { exportKeys: (keys) => exportKeys({ ...keys, stream: streams[keys.stream]?.index ?? keys.stream }) };
}

/**
 * Keys the sessions of a path by MIKEY: the server is the Initiator in the description (RFC 4567 §4.2), and a client that begins an
 * exchange of its own in SETUP is answered.
 */
export function createMikeyServerKeying(options: MikeyServerKeyingOptions): ServerKeying {
  const { keying, policy, directory, open, habits, level } = options;
  const credentialFor = options.credentialFor ?? (directory && pskCredentialFor(directory));
  const admitStranger = createStrangerGate(keying.options.clock, options.strangers);
  const exportTo = (peer: KeyingPeer): KeyExport | undefined => {
    const { exportKeys } = options;
    return exportKeys && ((keys) => exportKeys(keys, peer));
  };
  const offerFor = async (streams: readonly KeyingStream[], peer: KeyingPeer): Promise<MediaOffer | undefined> => {
    const { secure } = peer;
    const proposals = streams.map((stream) => proposalFor(stream, policy));
    const [first] = streams;
    const facts = {
      ...(first?.shared === undefined ? {} : { shared: first.shared }),
      ...(first?.unanswered === undefined ? {} : { unanswered: first.unanswered }),
      ...exportUnder(streams, exportTo(peer)),
    };
    if (credentialFor === undefined)
      return keying.offer({ credential: { nullKeying: true }, streams: proposals, secure, ...facts });
    const spare = open !== undefined && (secure || open.keying.options.allowNullKeying === true) ? open : undefined;
    const found = credentialFor(peer);
    if (found === undefined && spare === undefined && directory !== undefined) throw unknownClient();
    // Whoever asks for the message of now has a session, and so a key.
    if (found !== undefined && isCostly(found) && peer.user === undefined && first?.unanswered !== true)
      admitStranger(peer.remote.host);
    // Both lines are of one protocol; the list says that there are two (RFC 4567 §4.1.4).
    const sdpIds = spare === undefined ? PROTOCOLS : [...PROTOCOLS, ...PROTOCOLS];
    const keyed = found === undefined ? undefined : await keying.offer({ ...found, streams: proposals, secure, ...facts, sdpIds });
    if (spare === undefined) return keyed;
    const plain = await spare.keying.offer({
      credential: { nullKeying: true },
      streams: proposals.map((proposal) => ({ ...proposal, policy: spare.policy })),
      secure,
      ...facts,
    });
    return keyed === undefined ? plain : eitherOffer(plain, keyed);
  };
  return {
    ...(habits === undefined ? {} : { habits }),
    ...(level === undefined ? {} : { level }),
    ...(level === "session" && credentialFor !== undefined && open === undefined ? { offerAll: offerFor } : {}),
    offer: (stream, peer) => offerFor([stream], peer),
    async accept(offer, message, stream, peer, scope) {
      if (credentialFor !== undefined && open === undefined && message === undefined)
        throw new MikeyError("mikey.absent", "SETUP carries no key management data");
      if (message === undefined || isResponse(message)) return completeOffer(offer, message);
      const nullKeyed = isNullKeyedMessage(message);
      const plain = credentialFor === undefined ? keying : open?.keying;
      // In the NULL dialect the answer to an offer is a message of the client's own; elsewhere such a message is another exchange.
      if (offer !== undefined && nullKeyed && plain !== undefined) return completeOffer(offer, message);
      offer?.abandon();
      if (stream.shared !== undefined)
        throw new WatchwordError("rtsp.shared-key", "the key of a multicast stream is the server's to choose");
      return answerOwn(nullKeyed ? (plain ?? keying) : keying, message, stream, { peer, scope, exportKeys: exportTo(peer) });
    },
    share: () => {
      const { crypto, dialect } = keying.options;
      const fixed = credentialFor === undefined && dialect.nullRekey === "never";
      return createSharedSender({ policy, mkiLength: dialect.mkiLength, fixed, ...(crypto === undefined ? {} : { crypto }) });
    },
  };
}

/** Whether an offer takes a Diffie-Hellman value or a signature. */
function isCostly({ credential }: MeantCredential): boolean {
  return modeNameOf(credential) !== "PSK";
}

/** Who joins a shared stream late has to know how often its sequence numbers wrapped (RFC 3711 §3.3.1). */
function proposalFor({ ssrc, shared }: KeyingStream, policy: SrtpPolicy): StreamProposal {
  if (ssrc === undefined) return { policy };
  const rolloverCounter = shared?.sender.rolloverCounter(ssrc);
  return { policy, ssrc, ...(rolloverCounter === undefined ? {} : { rolloverCounter }) };
}

/** Two offers at one level: the answer tells which was taken. */
function eitherOffer(plain: MediaOffer, keyed: MediaOffer): MediaOffer {
  return {
    octets: plain.octets,
    further: [keyed.octets],
    accept(answer) {
      const [taken, other] = answer !== undefined && isResponse(answer) ? [keyed, plain] : [plain, keyed];
      other.abandon();
      return taken.accept(answer);
    },
    abandon() {
      plain.abandon();
      keyed.abandon();
    },
  };
}

/**
 * Offers every client the pre-shared key that is meant: the authenticated user's, or the one of the From header, or the only one there is
 * (RFC 4567 §7).
 */
export function pskCredentialFor(
  directory: PskDirectory,
  mode: "PSK" | "DHHMAC" = "PSK",
): (peer: KeyingPeer) => MeantCredential | undefined {
  const only = directory.names.length === 1 ? directory.names[0] : undefined;
  return (peer) => {
    for (const name of [peer.user, peer.from, only]) {
      const psk = name === undefined ? undefined : directory.find(name);
      if (name !== undefined && psk !== undefined) return { credential: { psk, mode }, responderId: identityOf(name) };
    }
    return undefined;
  };
}

function unknownClient(): MikeyError {
  return new MikeyError(
    "mikey.authentication",
    "no pre-shared key belongs to this client: it has to authenticate or say who it is in From",
  );
}

/** An ERR message also belongs to the exchange of the description. */
function isResponse(message: Uint8Array): boolean {
  const { dataType } = decodeMessage(message, { trailing: "keep" }).header;
  return dataType === DataType.ERROR || entryOf(DataType, dataType)?.from === "responder";
}

async function completeOffer(offer: MediaOffer | undefined, message: Uint8Array | undefined): Promise<KeyingOutcome> {
  if (offer === undefined) throw new MikeyError("mikey.response", "no key message of a description is pending on this connection");
  try {
    return { media: await offer.accept(message), response: undefined };
  } catch (error) {
    offer.abandon();
    throw error;
  }
}

async function answerOwn(
  keying: MediaKeying,
  message: Uint8Array,
  stream: KeyingStream,
  { peer, scope, exportKeys }: { readonly peer: KeyingPeer; readonly scope: string; readonly exportKeys: KeyExport | undefined },
): Promise<KeyingOutcome> {
  const { nullDirections } = keying.options.dialect;
  const answer = await keying.answer(message, {
    secure: peer.secure,
    ssrcs: [stream.ssrc ?? 0],
    scope,
    keyOwnDirection: true,
    // Whose key serves both ways is the client's here too, although it is the client that began.
    ...(nullDirections === "answerer" ? { nullDirections: "one" as const } : {}),
    ...exportUnder([stream], exportKeys),
  });
  return outcomeOf(answer);
}

function outcomeOf(answer: MediaAnswer): KeyingOutcome {
  if (answer.kind === "repeated") throw new WatchwordError("rtsp.repeated-setup", "the key message was answered before");
  return { media: answer.media, response: answer.response };
}

/** What a client begins an exchange with. */
export interface ClientBeginning {
  readonly policy: SrtpPolicy;
  /** Default: NULL keying. */
  readonly credential?: Credential;
  /** The server, where its identity is known; a pre-shared key agreement (DHHMAC) needs it. */
  readonly responderId?: Identity;
  /** Whether a server that `responderId` leaves open may answer. Default: everybody whose key is good. */
  readonly acceptsResponder?: (responderId: Identity) => boolean;
}

/** How a client is keyed. */
export interface MikeyClientKeyingOptions {
  readonly keying: MediaKeying;
  /** Tells this client's sessions from others' that share a replay cache. */
  readonly scope: string;
  /** Begin an exchange where the description has none (RFC 7826 appendix C.1.4.1, docs/protocol.md §7). */
  readonly initiate?: ClientBeginning;
  /** Prefer messages that a credential protects, where the description has several. Default false. */
  readonly preferPsk?: boolean;
  /** The policy of our own NULL-keyed key. Default: as the server's message has it. */
  readonly policy?: SrtpPolicy;
  /** Hands the SRTP master keys out; `stream` is the index of the m= line. Default: they never leave. */
  readonly exportKeys?: KeyExport;
  /** Name and habits of the kind of server. */
  readonly profile?: KeyingHabits & { readonly name: string };
}

/** Statuses that say that the keys were what was not acceptable: RFC 4567 §4.2, RFC 7826 §17.4.30. */
const ABOUT_THE_KEYS: ReadonlySet<number> = new Set([463, 466]);

/**
 * Answers the key messages of a description, and begins an exchange where there is none and a key to do it with; where the server refuses
 * it, once more on other terms (`secondOffer`). One object serves one server: what it refused once is not offered again.
 */
export function createMikeyClientKeying(options: MikeyClientKeyingOptions): ClientKeying {
  const { keying, scope, initiate, profile, policy, exportKeys } = options;
  let terms: OfferTerms | undefined;
  let last: RefusedOffer | undefined;
  return {
    ...(profile === undefined ? {} : { habits: profile, profile: profile.name }),
    choose: (messages) => chooseMessage(messages, options.preferPsk === true),
    answeredPerStream: isNullKeyedMessage,
    async answer(message, request) {
      const answer = await keying.answer(message, {
        secure: request.peer.secure,
        ssrcs: request.streams.map((stream) => stream.ssrc ?? 0),
        scope,
        sdpIds: request.protocols,
        keyOwnDirection: true,
        ...(request.shared === true ? { nullDirections: "each" as const } : {}),
        ...(request.line === undefined ? {} : { line: request.line }),
        ...(policy === undefined ? {} : { policy }),
        ...exportUnder(request.streams, exportKeys),
      });
      return outcomeOf(answer);
    },
    ...(initiate === undefined
      ? {}
      : {
          async initiate(request: ClientKeyingRequest) {
            const beginning = { ...initiate, policy: terms?.policy ?? initiate.policy, exportKeys };
            const saidHello = request.announced && terms?.withoutHello !== true;
            const offer = await begin(keying, beginning, { ...request, announced: saidHello });
            last = { offers: [offer], saidHello, policy: beginning.policy, terms };
            return offer;
          },
          climb(status: number, report?: ErrorReport) {
            const refused = last;
            last = undefined;
            if (refused === undefined || (report === undefined && !ABOUT_THE_KEYS.has(status))) return false;
            const next = secondOffer(keying, refused, report);
            terms = next ?? terms;
            return next !== undefined;
          },
        }),
  };
}

/** Of several messages at one level the one for us: protected by a credential, or not; the first where none is. */
export function chooseMessage(messages: readonly Uint8Array[], preferPsk: boolean): number {
  return Math.max(
    0,
    messages.findIndex((message) => isNullKeyedMessage(message) !== preferPsk),
  );
}

function begin(
  keying: MediaKeying,
  { credential, policy, exportKeys, ...responder }: ClientBeginning & { readonly exportKeys: KeyExport | undefined },
  request: ClientKeyingRequest,
): Promise<MediaOffer> {
  const { nullDirections } = keying.options.dialect;
  return keying.offer({
    credential: credential ?? { nullKeying: true },
    streams: request.streams.map(({ ssrc }) => ({ policy, ...(ssrc === undefined ? {} : { ssrc }) })),
    secure: request.peer.secure,
    peerAnnounced: request.announced,
    ...exportUnder(request.streams, exportKeys),
    ...(nullDirections === "answerer" ? { nullDirections: "one" as const } : {}),
    ...responder,
  });
}
