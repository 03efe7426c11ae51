/**
 * What the providers share, for those who write one: how keys are encoded and held to limits, how RSA is padded, how many keys are
 * wrapped at once, and which public values are
 * acceptable. It stands apart from the index since the index chooses a provider, and a provider cannot wait for that.
 */
export * from "./asymmetric.js";
export type * from "./contracts.js";
export * from "./key-encoding.js";
export { aesOnceBy, hashBy, hmacOnceBy, pHashOnceBy, wrapManyBy } from "./key-kernel.js";
export { isModp1536Value } from "./modp.js";
export * from "./rsa-padding.js";
export * from "./schemes.js";
