export * from "./bodies.js";
export * from "./contracts.js";
export * from "./refusal.js";
