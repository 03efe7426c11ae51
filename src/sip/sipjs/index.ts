export * from "./contracts.js";
export * from "./responses.js";
