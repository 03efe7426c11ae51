export * from "./contracts.js";
export {
  type AnswerRequest,
  createMediaKeying,
  type KeyingDialect,
  type KeyLifetime,
  type MediaKeying,
  type MediaKeyingOptions,
  type NullDirections,
  type OfferRequest,
} from "./media-keying.js";
export * from "./pop.js";
export * from "./registration.js";
export { createSharedSender, type SharedSender, type SharedSenderOptions } from "./shared-sender.js";
