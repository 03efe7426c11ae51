export * from "./contracts.js";
export * from "./failures.js";
export * from "./key-derivation.js";
export * from "./suites.js";
