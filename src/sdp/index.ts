export * from "./capabilities.js";
export * from "./crypto-attribute.js";
export * from "./description.js";
export * from "./key-mgmt.js";
export * from "./key-mgmt-header.js";
export * from "./lines.js";
export * from "./media-lines.js";
export * from "./tolerances.js";
