export * from "./clocks.js";
export * from "./contracts.js";
export * from "./simulated.js";
export * from "./token-bucket.js";
