import { platformCrypto } from "#platform";
import type { CryptoProvider } from "./contracts.js";

export * from "./asymmetric.js";
export * from "./certificates.js";
export * from "./contracts.js";
export { relaxSwizzles } from "./kernel-engine.js";
export { md5 } from "./md5.js";
export { nobleCrypto } from "./noble.js";
export * from "./pem.js";
export { encryptionSchemesOf, signatureSchemesOf } from "./schemes.js";
export { createWebCryptoDecrypter, createWebCryptoSigner } from "./web-crypto.js";

/** The fastest provider of the platform: node:crypto on Node, @noble elsewhere. */
export const defaultCrypto: CryptoProvider = platformCrypto;
