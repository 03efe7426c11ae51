export { type Certificate, type GeneralName, type NameConstraints, readCertificate } from "./certificate.js";
export * from "./issue.js";
export * from "./verifier.js";
