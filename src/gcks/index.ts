export * from "./contracts.js";
export { type GcksOptions, type JoinRequest, openGcks } from "./controller.js";
export { fields as definitionFields, type GroupDefinition, readGroupDefinition } from "./definition.js";
export { GcksRefusal } from "./errors.js";
