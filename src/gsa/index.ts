export * from "./contracts.js";
export * from "./pop.js";
export * from "./registration.js";
