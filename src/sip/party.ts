import { utf8, utf8Text, WatchwordError } from "../bytes/index.js";
import { type Identity, IdType } from "../mikey/index.js";

const SCHEME = /^(sips?):/i;

/**
 * A SIP URI as identities compare: `sip:user@host[:port]` without display name, parameters and headers, host and scheme in lower case.
 * `sips:` names the same party as `sip:` (RFC 3261 §19.1). @throws WatchwordError `sip.uri`
 */
export function partyOf(uri: string): string {
  const bracketed = /<([^<>]*)>/.exec(uri)?.[1] ?? uri;
  const bare = bracketed.trim().replace(SCHEME, "").split(/[;?]/)[0] as string;
  const at = bare.lastIndexOf("@");
  const host = bare.slice(at + 1).toLowerCase();
  if (!/^[\x21-\x7e]{1,255}$/.test(bare) || host === "") throw new WatchwordError("sip.uri", "not a SIP URI");
  return `sip:${bare.slice(0, at + 1)}${host}`;
}

/** The identity of a SIP user in ID payloads: a URI (RFC 3830 §6.7). @throws WatchwordError `sip.uri` */
export function sipIdentity(uri: string): Identity {
  return { idType: IdType.URI, data: utf8(partyOf(uri)) };
}

/** Whether an identity of a key message names the party of a From or To: as URI, or as the network access identifier `user@host`. */
export function namesParty(identity: Identity, uri: string): boolean {
  const text = utf8Text(identity.data);
  if (text === undefined || (identity.idType !== IdType.URI && identity.idType !== IdType.NAI)) return false;
  try {
    return partyOf(text) === partyOf(uri);
  } catch (error) {
    if (error instanceof WatchwordError) return false;
    throw error;
  }
}

/** Pre-shared keys by the SIP URI of the other party. */
export interface SipDirectory {
  find(uri: string): Uint8Array | undefined;
}

/** A directory of keys. They stay the caller's. @throws WatchwordError `sip.uri` */
export function createSipDirectory(entries: Iterable<readonly [uri: string, psk: Uint8Array]>): SipDirectory {
  const keys = new Map([...entries].map(([uri, psk]) => [partyOf(uri), psk]));
  return {
    find: (uri) => {
      try {
        return keys.get(partyOf(uri));
      } catch (error) {
        if (error instanceof WatchwordError) return undefined;
        throw error;
      }
    },
  };
}
