export * from "./codec.js";
export * from "./message.js";
export * from "./registry.js";
