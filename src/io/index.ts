export * from "./contracts.js";
export * from "./simulated.js";
