export * from "./bodies.js";
export * from "./contracts.js";
export { plainDescription } from "./description.js";
export * from "./group.js";
export * from "./keying.js";
export * from "./party.js";
export * from "./refusal.js";
