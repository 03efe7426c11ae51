import type { CryptoProvider } from "../crypto/index.js";
import {
  type Csb,
  decodeHello,
  ExtensionType,
  encodeHello,
  type GeneralExtensionPayload,
  PROTOCOL_VERSION,
} from "../mikey/index.js";

/** A HELLO for a two-party session, with a fresh nonce. */
export function helloExtension(crypto: CryptoProvider): GeneralExtensionPayload {
  const data = encodeHello({ version: PROTOCOL_VERSION, nonce: crypto.randomBytes(16), group: new Uint8Array(0) });
  return { kind: "EXT", extType: ExtensionType.HELLO, data };
}

/** What a response says to the extensions of its request: HELLO to HELLO (docs/protocol.md §4.2). */
export function answeringHello(crypto: CryptoProvider, { initiatorExtensions }: Pick<Csb, "initiatorExtensions">) {
  return helloNonce(initiatorExtensions) === undefined ? [] : [helloExtension(crypto)];
}

/** The nonce of the HELLO among extensions; undefined where there is none that this version understands. */
export function helloNonce(extensions: readonly GeneralExtensionPayload[]): Uint8Array | undefined {
  for (const { extType, data } of extensions) {
    if (extType !== ExtensionType.HELLO) continue;
    try {
      const { version, nonce } = decodeHello(data);
      return version === PROTOCOL_VERSION ? nonce : undefined;
    } catch {
      return undefined;
    }
  }
  return undefined;
}
