export * from "./contracts.js";
export {
  type AnswerRequest,
  createMediaKeying,
  type KeyingDialect,
  type MediaKeying,
  type MediaKeyingOptions,
  type OfferRequest,
  type StreamProposal,
} from "./media-keying.js";
export * from "./pop.js";
export * from "./registration.js";
