export * from "./contracts.js";
export * from "./join.js";
export * from "./service.js";
