export * from "./contracts.js";
export * from "./export.js";
export * from "./export-libsrtp.js";
export * from "./export-message.js";
export * from "./find.js";
export * from "./inspect.js";
export type { JsonObject, JsonValue, MessageView } from "./message-view.js";
export * from "./redact.js";
export * from "./report.js";
