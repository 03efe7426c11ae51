import { utf8Text } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import { createMediaKeying, type KeyedMedia, type MediaKeyingOptions } from "../gsa/index.js";
import type { Clock, Timer, Timers } from "../io/index.js";
import type { Credential, MikeyPolicy } from "../mikey/index.js";
import { peerProfile } from "../peers/index.js";
import type { SdpSection } from "../sdp/index.js";
import type { SipKeying, SipKeyingOptions } from "./contracts.js";
import { createDialog } from "./dialog.js";
import type { Endpoint } from "./parts.js";
import { createSipDirectory, type SipDirectory, sipIdentity } from "./party.js";

/** How long a retried INVITE may take: the client's transaction timer (RFC 3261 §17.1.1.2, timer B). */
const PARKED_MS = 32_000;
const MOST_PARKED = 256;
const MOST_REMEMBERED = 1024;

/** Keys for the dialogs of one user agent. */
export function createSipKeying(options: SipKeyingOptions): SipKeying {
  const parked = new Map<string, { readonly media: KeyedMedia; readonly timer: Timer }>();
  const { timers } = options.keying.options;
  const name = (scope: string, section: SdpSection): string => `${scope} ${section}`;
  const take = (key: string): KeyedMedia | undefined => {
    const entry = parked.get(key);
    entry?.timer.cancel();
    parked.delete(key);
    return entry?.media;
  };
  const endpoint: Endpoint = {
    options,
    terms: boundedMap(MOST_REMEMBERED),
    park(scope, section, media) {
      const key = name(scope, section);
      take(key)?.close();
      const [oldest] = parked.size >= MOST_PARKED ? parked.keys() : [];
      if (oldest !== undefined) take(oldest)?.close();
      parked.set(key, { media, timer: timers.after(PARKED_MS, () => take(key)?.close()) });
    },
    unpark: (scope, section) => take(name(scope, section)),
  };
  return {
    options,
    dialog: (facts) => createDialog(endpoint, facts),
    close() {
      for (const key of [...parked.keys()]) take(key)?.close();
    },
  };
}

/** A map that forgets its oldest entry beyond a size: parties come from the network. */
function boundedMap<V>(size: number): Map<string, V> {
  const map = new Map<string, V>();
  const set = map.set.bind(map);
  map.set = (key, value) => {
    const [oldest] = map.size >= size && !map.has(key) ? map.keys() : [];
    if (oldest !== undefined) map.delete(oldest);
    return set(key, value);
  };
  return map;
}

/** Credentials by the URI of the other party. */
export interface SipCredentials {
  /** What a party is called with. */
  find(uri: string): Credential | undefined;
  /** The pre-shared key that a party may call with, where it is called with something else. Default: those that `find` has. */
  findPsk?(uri: string): Uint8Array | undefined;
}

/** What a user agent is, apart from its credentials. */
interface AgentOptions
  extends Omit<SipKeyingOptions, "keying" | "credentialFor">,
    Partial<Pick<MediaKeyingOptions, "dialect" | "policyAccepted" | "skewMs" | "replayCache" | "timestamps" | "overlapMs">> {
  /** Our own URI: `sip:alice@example.org`. In the modes with key pairs our certificate names it. */
  readonly uri: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly crypto?: CryptoProvider;
}

/** A user agent whose calls are keyed under credentials. */
export interface CredentialSipKeyingOptions extends AgentOptions, Pick<MediaKeyingOptions, "keyPairs"> {
  /** By which parties are called, in whatever mode, and pre-shared keys that they call with; with `keyPairs` they may call by certificates. */
  readonly credentials: SipCredentials;
  /** What is acceptable in key messages, and how certificates are judged. Default: every mode, and no certificate. */
  readonly keyPolicy?: MikeyPolicy;
}

/**
 * `createSipKeying` for a user agent with credentials: identities are SIP URIs, keys without protection of their own are refused.
 * @throws WatchwordError `sip.uri`
 */
export function createCredentialSipKeying(options: CredentialSipKeyingOptions): SipKeying {
  const { uri, credentials, clock, timers, crypto, keyPairs, keyPolicy, ...others } = options;
  const { dialect, policyAccepted, skewMs, replayCache, timestamps, overlapMs, ...rest } = others;
  const keying = createMediaKeying({
    clock,
    timers,
    dialect: dialect ?? peerProfile("strict"),
    identity: sipIdentity(uri),
    requirePsk: true,
    findCredential: (identity) => {
      const party = identity === undefined ? undefined : utf8Text(identity.data);
      if (party === undefined) return undefined;
      const psk = credentials.findPsk?.(party);
      const credential = psk === undefined ? credentials.find(party) : { psk };
      return credential !== undefined && "psk" in credential ? credential : undefined;
    },
    ...(keyPairs === undefined ? {} : { keyPairs }),
    ...(keyPolicy === undefined ? {} : { policy: keyPolicy }),
    ...(crypto === undefined ? {} : { crypto }),
    ...(policyAccepted === undefined ? {} : { policyAccepted }),
    ...(skewMs === undefined ? {} : { skewMs }),
    ...(replayCache === undefined ? {} : { replayCache }),
    ...(timestamps === undefined ? {} : { timestamps }),
    ...(overlapMs === undefined ? {} : { overlapMs }),
  });
  return createSipKeying({ ...rest, keying, credentialFor: (party) => credentials.find(party) });
}

/** A user agent whose calls are keyed by pre-shared keys. */
export interface PskSipKeyingOptions extends AgentOptions {
  /** Pre-shared keys by the URI of the other party. */
  readonly keys: SipDirectory | Iterable<readonly [uri: string, psk: Uint8Array]>;
}

/**
 * `createCredentialSipKeying` where every credential is a pre-shared key.
 * @throws WatchwordError `sip.uri`
 */
export function createPskSipKeying({ keys, ...options }: PskSipKeyingOptions): SipKeying {
  const directory = Symbol.iterator in keys ? createSipDirectory(keys) : keys;
  const find = (party: string): Credential | undefined => {
    const psk = directory.find(party);
    return psk === undefined ? undefined : { psk };
  };
  return createCredentialSipKeying({ ...options, credentials: { find } });
}
