export { type Certificate, type GeneralName, type NameConstraints, readCertificate } from "./certificate.js";
export * from "./issue.js";
export { type RevocationList, readRevocationList } from "./revocation.js";
export * from "./verifier.js";
