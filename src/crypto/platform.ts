/** What `#platform` means where there is no Node. */
export { nobleCrypto as platformCrypto } from "./noble.js";
