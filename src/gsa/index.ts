export * from "./contracts.js";
export * from "./databases.js";
export * from "./group-credential.js";
export {
  type GsaContent,
  type GsaExpectation,
  type OpenedGsa,
  openGsa,
  sealGsa,
  wipeGsa,
} from "./group-gsa.js";
export {
  type DataKey,
  type GroupConstants,
  type GroupKek,
  heldGroupKey,
  masterKeyOf,
  type ProvenKey,
  signingKeyId,
  wipeDataKeys,
} from "./group-keys.js";
export * from "./group-leave.js";
export {
  belowMinimum,
  type DataSaPolicy,
  type DeregistrationPolicy,
  GROUP_LIMITS,
  type GroupPolicies,
  type GroupPolicy,
  type MemberRole,
  type MembershipTerms,
  type MinimumGroupPolicy,
  type RekeyPolicy,
  type RekeySignature,
  type ResynchronisationMethod,
  retransmissionSpanMs,
} from "./group-policy.js";
export { decodeGroupPolicies, encodeGroupPolicies } from "./group-policy-params.js";
export * from "./group-registration.js";
export * from "./group-rekey.js";
export * from "./group-rekey-receiver.js";
export * from "./group-report.js";
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
export type { ProofVerdict } from "./proof.js";
export { createRegistrationSa, type RegistrationFacts, type RegistrationSa } from "./registration.js";
export * from "./second-offer.js";
export { createSharedSender, type SharedSender, type SharedSenderOptions } from "./shared-sender.js";
