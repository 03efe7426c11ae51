/** What `#platform` means on Node. */
export { nodeCrypto as platformCrypto } from "./crypto.js";
