import { utf8, utf8Text, WatchwordError } from "../bytes/index.js";
import type { MediaKeying, MediaOffer } from "../gsa/index.js";
import { DataType, decodeMessage, type Identity, IdType, MikeyError } from "../mikey/index.js";
import type { SrtpPolicy } from "../srtp/index.js";
import type { ClientKeying, ClientKeyingRequest, KeyingOutcome, KeyingPeer, KeyingStream, ServerKeying } from "./keying.js";

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

/** How a server path is keyed. */
export interface MikeyServerKeyingOptions {
  readonly keying: MediaKeying;
  readonly policy: SrtpPolicy;
  /** With a directory every session needs a pre-shared key of it; without, keys are NULL-keyed and as safe as the channel. */
  readonly directory?: PskDirectory;
}

/**
 * Keys the sessions of a path by MIKEY: the server is the Initiator in the description (RFC 4567 §4.2), and a client that begins an
 * exchange of its own in SETUP is answered.
 */
export function createMikeyServerKeying({ keying, policy, directory }: MikeyServerKeyingOptions): ServerKeying {
  return {
    async offer(stream, peer) {
      const { secure } = peer;
      const streams = [{ policy, ...(stream.ssrc === undefined ? {} : { ssrc: stream.ssrc }) }];
      if (directory === undefined) return keying.offer({ credential: { nullKeying: true }, streams, secure });
      const { name, psk } = meantKey(directory, peer);
      return keying.offer({ credential: { psk }, streams, secure, responderId: identityOf(name), sdpIds: PROTOCOLS });
    },
    async accept(offer, message, stream, peer, scope) {
      if (directory !== undefined && message === undefined)
        throw new MikeyError("mikey.absent", "SETUP carries no key management data");
      if (directory === undefined || (message !== undefined && isResponse(message))) return completeOffer(offer, message);
      offer?.abandon();
      return answerOwn(keying, message as Uint8Array, stream, peer, scope);
    },
  };
}

/**
 * Which pre-shared key is meant: the authenticated user's, or the one of the From header, or the only one there is (RFC 4567 §7).
 * @throws MikeyError `mikey.authentication` where no key has that name
 */
function meantKey(directory: PskDirectory, peer: KeyingPeer): { name: string; psk: Uint8Array } {
  const only = directory.names.length === 1 ? directory.names[0] : undefined;
  for (const name of [peer.user, peer.from, only]) {
    const psk = name === undefined ? undefined : directory.find(name);
    if (name !== undefined && psk !== undefined) return { name, psk };
  }
  throw new MikeyError(
    "mikey.authentication",
    "no pre-shared key belongs to this client: it has to authenticate or say who it is in From",
  );
}

/** An ERR message also belongs to the exchange of the description. */
function isResponse(message: Uint8Array): boolean {
  const { dataType } = decodeMessage(message, { trailing: "keep" }).header;
  return dataType === DataType.PSK_RESP || dataType === DataType.ERROR;
}

async function completeOffer(offer: MediaOffer | undefined, message: Uint8Array | undefined): Promise<KeyingOutcome> {
  if (offer === undefined) throw new MikeyError("mikey.response", "no key message of a description is pending on this connection");
  return { media: await offer.accept(message), response: undefined };
}

async function answerOwn(
  keying: MediaKeying,
  message: Uint8Array,
  stream: KeyingStream,
  peer: KeyingPeer,
  scope: string,
): Promise<KeyingOutcome> {
  const answer = await keying.answer(message, { secure: peer.secure, ssrcs: [stream.ssrc ?? 0], scope });
  if (answer.kind === "repeated") throw new WatchwordError("rtsp.repeated-setup", "the key message was answered before");
  return { media: answer.media, response: answer.response };
}

/** How a client is keyed. */
export interface MikeyClientKeyingOptions {
  readonly keying: MediaKeying;
  /** Tells this client's sessions from others' that share a replay cache. */
  readonly scope: string;
  /** Begin an exchange where the description has none, under this key and policy (docs/protocol.md §7). */
  readonly initiate?: { readonly psk: Uint8Array; readonly policy: SrtpPolicy };
}

/** Answers the key messages of a description, and begins an exchange where there is none and a key to do it with. */
export function createMikeyClientKeying({ keying, scope, initiate }: MikeyClientKeyingOptions): ClientKeying {
  return {
    async answer(message, request) {
      const answer = await keying.answer(message, {
        secure: request.peer.secure,
        ssrcs: request.streams.map((stream) => stream.ssrc ?? 0),
        scope,
        sdpIds: request.protocols,
        keyOwnDirection: true,
      });
      if (answer.kind === "repeated") throw new WatchwordError("rtsp.repeated-setup", "the key message was answered before");
      return { media: answer.media, response: answer.response };
    },
    ...(initiate === undefined ? {} : { initiate: (request: ClientKeyingRequest) => begin(keying, initiate, request) }),
  };
}

function begin(
  keying: MediaKeying,
  { psk, policy }: { readonly psk: Uint8Array; readonly policy: SrtpPolicy },
  request: ClientKeyingRequest,
): Promise<MediaOffer> {
  return keying.offer({
    credential: { psk },
    streams: request.streams.map(({ ssrc }) => ({ policy, ...(ssrc === undefined ? {} : { ssrc }) })),
    secure: request.peer.secure,
    peerAnnounced: request.announced,
  });
}
