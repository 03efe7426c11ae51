export * from "./codec.js";
export * from "./message.js";
export * from "./payloads-content.js";
export * from "./payloads-key-data.js";
export * from "./registry.js";
