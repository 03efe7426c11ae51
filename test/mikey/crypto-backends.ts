import { type CryptoProvider, nobleCrypto } from "../../src/crypto/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";

/** Both backends, for `describe.each`. */
export const backends: readonly (readonly [name: string, crypto: CryptoProvider])[] = [
  ["noble", nobleCrypto],
  ["node", nodeCrypto],
];
