export * from "./checks.js";
export * from "./contracts.js";
export * from "./errors.js";
export * from "./following.js";
export * from "./lease.js";
export * from "./memory.js";
export * from "./watchers.js";
