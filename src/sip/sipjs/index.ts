export * from "./contracts.js";
export { createSessionDescriptionHandlerFactory } from "./handler.js";
export * from "./responses.js";
