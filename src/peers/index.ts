export * from "./ladder.js";
export * from "./profiles.js";
