export * from "./aes-circuit.js";
export * from "./assembler.js";
export { INNER_PAD, OUTER_PAD } from "./hmac.js";
export * from "./sha1.js";
export * from "./words.js";
