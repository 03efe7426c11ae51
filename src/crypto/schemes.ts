import { WatchwordError } from "../bytes/index.js";
import type { AgreementGroup, EncryptionScheme, PublicKeyKind, SignatureScheme } from "./asymmetric.js";
import type { HashName } from "./contracts.js";

interface SignatureSchemeFacts {
  readonly kind: PublicKeyKind;
  readonly padding?: "pkcs1" | "pss";
  /** The hash of the message; Ed25519 has its own inside. */
  readonly hash?: HashName;
}

/** What a signature scheme is made of. */
export const signatureSchemeFacts: Readonly<Record<SignatureScheme, SignatureSchemeFacts>> = {
  "rsa-pkcs1-sha1": { kind: "rsa", padding: "pkcs1", hash: "sha1" },
  "rsa-pkcs1-sha256": { kind: "rsa", padding: "pkcs1", hash: "sha256" },
  "rsa-pss-sha1": { kind: "rsa", padding: "pss", hash: "sha1" },
  "rsa-pss-sha256": { kind: "rsa", padding: "pss", hash: "sha256" },
  "ecdsa-p256-sha256": { kind: "ec-p256", hash: "sha256" },
  ed25519: { kind: "ed25519" },
};

const SIGNATURE_SCHEMES = Object.keys(signatureSchemeFacts) as readonly SignatureScheme[];
const ENCRYPTION_SCHEMES: readonly EncryptionScheme[] = ["rsa-pkcs1", "rsa-oaep-sha1", "rsa-oaep-sha256"];

/** The schemes that a kind of key can sign with. */
export function signatureSchemesOf(kind: PublicKeyKind): readonly SignatureScheme[] {
  return SIGNATURE_SCHEMES.filter((scheme) => signatureSchemeFacts[scheme].kind === kind);
}

/** The schemes that a kind of key can be encrypted to with. */
export function encryptionSchemesOf(kind: PublicKeyKind): readonly EncryptionScheme[] {
  return kind === "rsa" ? ENCRYPTION_SCHEMES : [];
}

/** @throws WatchwordError `crypto.scheme` for a scheme that is not among those of a key */
export function checkScheme<T extends string>(schemes: readonly T[], scheme: T): void {
  if (!schemes.includes(scheme)) throw new WatchwordError("crypto.scheme", `a key that cannot do ${scheme}`);
}

/** What `decrypt` of a key that can only sign does. @throws WatchwordError `crypto.scheme` */
export async function refuseDecryption(scheme: EncryptionScheme): Promise<never> {
  throw new WatchwordError("crypto.scheme", `a key that cannot do ${scheme}`);
}

/** The groups that are long enough to agree in. */
export type UsableGroup = Exclude<AgreementGroup, "modp768" | "modp1024">;

/** Octets that a private value of a vector may have; those of an exponent stay below the prime. */
const PRIVATE_LENGTHS: Readonly<Record<UsableGroup, readonly [least: number, most: number]>> = {
  modp1536: [20, 191],
  x25519: [32, 32],
  p256: [32, 32],
};

/** @throws WatchwordError `crypto.group` for a group that is too short, `crypto.length` for a private value of another length than the group's */
export function checkAgreement(group: AgreementGroup, privateValue: Uint8Array | undefined): asserts group is UsableGroup {
  if (group === "modp768" || group === "modp1024") throw new WatchwordError("crypto.group", `${group} is too short to agree in`);
  const [least, most] = PRIVATE_LENGTHS[group];
  if (
    privateValue !== undefined &&
    !(privateValue.length >= least && privateValue.length <= most && privateValue.some((octet) => octet !== 0))
  )
    throw new WatchwordError("crypto.length", `no private value of ${group}`);
}
