export * from "./contracts.js";
export * from "./group-carrier.js";
export * from "./group-server.js";
export { createSessionDescriptionHandlerFactory } from "./handler.js";
export * from "./responses.js";
