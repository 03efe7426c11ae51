export * from "./authentication.js";
export * from "./headers.js";
export * from "./message.js";
export * from "./parser.js";
export * from "./transport.js";
export * from "./uri.js";
