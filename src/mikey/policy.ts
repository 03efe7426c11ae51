import { concatBytes, parseHex, wipe } from "../bytes/index.js";
import type {
  AgreementGroup,
  CertificateUsage,
  CertificateVerifier,
  CryptoProvider,
  EncryptionScheme,
  PublicKey,
  PublicKeyKind,
  SignatureScheme,
} from "../crypto/index.js";
import type { SrtpPolicy, SuiteName } from "../srtp/index.js";
import type { Identity } from "./csb.js";
import { MikeyError } from "./errors.js";
import type { DecodedMessage, GeneralExtensionPayload } from "./message.js";
import type { ModeName } from "./modes/modes.js";
import { isStandardScheme, signatureKind, verifySignature } from "./modes/signature.js";
import { createPeerKeys, type PeerKey, type PeerKeys } from "./peer-keys.js";
import { PROTOCOL_VERSION } from "./private-extensions.js";
import { DhGroup, EncrAlg, ExtensionType, entriesOf, entryOf, MacAlg, PrfFunc } from "./registry.js";
import type { ToleranceUse } from "./tolerances.js";

/**
 * What is acceptable to one party, each list in the order of its preference: an Initiator proposes the first that its credential and
 * its peer allow, a Responder takes whatever is listed and refuses the rest with the ERR that says so (RFC 3830 §4.3, §5.1.1).
 * Numbers of docs/protocol.md count only where HELLO announced them, whatever is listed.
 */
export interface MikeyPolicy {
  /** Default all. */
  readonly modes?: readonly ModeName[];
  /** PRF funcs. Default MIKEY-1, HMAC-SHA-256. */
  readonly prfs?: readonly number[];
  /** Encr algs of KEMAC. Default AES-CM-128, AES-CM-256, AES-KW-128. */
  readonly encrAlgs?: readonly number[];
  /** MAC algs. Default HMAC-SHA-1-160, HMAC-SHA-256-256. */
  readonly macAlgs?: readonly number[];
  /** Default `modp1536` (OAKLEY 5), `x25519`, `p256`. OAKLEY 1 and 2 can be read and are never acceptable. */
  readonly groups?: readonly AgreementGroup[];
  /** Default those with SHA-256, PSS before PKCS1, and the two of SIGNX. RFC 3830's own SHA-1 is in `RFC_3830_ALGORITHMS`. */
  readonly signatureSchemes?: readonly SignatureScheme[];
  /** How envelope keys are encrypted. It is not on the wire: both ends have to list the same. Default `rsa-oaep-sha1`. */
  readonly encryptionSchemes?: readonly EncryptionScheme[];
  /** Whether envelope keys of our making are kept, so that updates are pre-shared key messages under them (RFC 3830 §3.2, §4.5). Default true. */
  readonly cacheEnvelopeKeys?: boolean;
  /** SRTP suites, named in ERR where another was proposed. Default: whatever encrypts and authenticates. */
  readonly suites?: readonly SuiteName[];
  /** Shortest modulus of a peer's RSA key. Default 2048. */
  readonly leastRsaBits?: number;
  /** Judges certificates, by roots of its own (`watchword/crypto/x509`). Without it none is good. */
  readonly certificates?: CertificateVerifier;
  /** The key of a peer that is known by identity, without certificate or whatever its certificate (RFC 3830 §4.3.2). */
  readonly findPublicKey?: (
    identity: Identity | undefined,
    usage: CertificateUsage,
  ) => PublicKey | undefined | Promise<PublicKey | undefined>;
  /** Whether an Initiator whose numbers of docs/protocol.md were refused may try once more with those of the RFCs. Default true. */
  readonly fallback?: boolean;
  /** Told why an authentication failed: for local logs alone, the peer must not learn it (RFC 3830 §5.1.2). */
  readonly onRefusal?: (reason: string) => void;
}

/** What RFC 3830 has everybody implement (§4.2.1, §4.2.5, §4.2.6), beside what is better: to be spread into a policy for peers that know no more. */
export const RFC_3830_ALGORITHMS = {
  signatureSchemes: ["rsa-pkcs1-sha1", "rsa-pss-sha1", "rsa-pkcs1-sha256", "rsa-pss-sha256"],
  encryptionSchemes: ["rsa-oaep-sha1", "rsa-pkcs1"],
} as const satisfies MikeyPolicy;

/** A policy made ready for use: checked, complete, with the keys of peers that were found good. */
export interface CompiledPolicy {
  readonly modes: readonly ModeName[];
  readonly prfs: readonly number[];
  readonly encrAlgs: readonly number[];
  readonly macAlgs: readonly number[];
  readonly groups: readonly AgreementGroup[];
  readonly signatureSchemes: readonly SignatureScheme[];
  /** Of these the ones that RFC 3830 knows. */
  readonly standardSchemes: readonly SignatureScheme[];
  readonly encryptionSchemes: readonly EncryptionScheme[];
  readonly peerKeys: PeerKeys;
  /** Stands in for a key that is not known, so that a failure takes as long. */
  nobody(kind: PublicKeyKind): Promise<PublicKey>;
  readonly cacheEnvelopeKeys: boolean;
  allowsSuite(policy: SrtpPolicy): boolean;
  /** What an ERR names instead (RFC 3830 §5.1.1). */
  readonly supported: readonly SrtpPolicy[];
  refused(reason: string): void;
}

const DEFAULTS = {
  modes: ["DH", "DHHMAC", "RSA-R", "PK", "PSK"],
  prfs: [PrfFunc.MIKEY_1, PrfFunc.HMAC_SHA_256],
  encrAlgs: [EncrAlg.AES_CM_128, EncrAlg.AES_CM_256, EncrAlg.AES_KW_128],
  macAlgs: [MacAlg.HMAC_SHA_1_160, MacAlg.HMAC_SHA_256_256],
  groups: ["modp1536", "x25519", "p256"],
  signatureSchemes: ["rsa-pss-sha256", "rsa-pkcs1-sha256", "ecdsa-p256-sha256", "ed25519"],
  encryptionSchemes: ["rsa-oaep-sha1"],
} as const satisfies MikeyPolicy;

const compiled = new WeakMap<MikeyPolicy, Map<CryptoProvider, CompiledPolicy>>();
const NO_POLICY: MikeyPolicy = {};

/**
 * Compiles a policy, once per object: everything that is made with the same object shares what it found out about peers' keys.
 * @throws MikeyError `mikey.option` for an empty list and for groups that are too short
 */
export function compilePolicy(crypto: CryptoProvider, policy: MikeyPolicy = NO_POLICY): CompiledPolicy {
  const known = compiled.get(policy) ?? new Map<CryptoProvider, CompiledPolicy>();
  compiled.set(policy, known);
  const before = known.get(crypto);
  if (before !== undefined) return before;
  const made = compile(crypto, policy);
  known.set(crypto, made);
  return made;
}

function compile(crypto: CryptoProvider, policy: MikeyPolicy): CompiledPolicy {
  const list = <K extends keyof typeof DEFAULTS>(name: K): NonNullable<MikeyPolicy[K]> => {
    const values = policy[name] ?? DEFAULTS[name];
    if (values.length === 0) throw new MikeyError("mikey.option", `a policy that lists no ${name}`);
    return [...values] as unknown as NonNullable<MikeyPolicy[K]>;
  };
  const groups = list("groups");
  if (groups.some((group) => group === "modp768" || group === "modp1024"))
    throw new MikeyError("mikey.option", "OAKLEY groups 1 and 2 are too short to be acceptable");
  const signatureSchemes = list("signatureSchemes");
  const { suites, onRefusal } = policy;
  const nobody = new Map<PublicKeyKind, Promise<PublicKey>>();
  return {
    modes: list("modes"),
    prfs: list("prfs"),
    encrAlgs: list("encrAlgs"),
    macAlgs: list("macAlgs"),
    groups,
    signatureSchemes,
    standardSchemes: signatureSchemes.filter(isStandardScheme),
    encryptionSchemes: list("encryptionSchemes"),
    peerKeys: createPeerKeys(policy),
    nobody(kind) {
      const key = nobody.get(kind) ?? nobodysKey(crypto, kind);
      nobody.set(kind, key);
      return key;
    },
    cacheEnvelopeKeys: policy.cacheEnvelopeKeys ?? true,
    allowsSuite: ({ suite }) => suites === undefined || suites.includes(suite),
    supported: (suites ?? []).map((suite) => ({ suite })),
    refused: (reason) => onRefusal?.(reason),
  };
}

/** SubjectPublicKeyInfo of an RSA key of 2048 bits (RFC 3279 §2.3.1) before its modulus, and the exponent 65537 behind it. */
const RSA_2048_HEAD = parseHex("30820122300d06092a864886f70d01010105000382010f003082010a0282010100");
const RSA_2048_TAIL = parseHex("0203010001");

/** A public key, of 2048 bits where it is RSA, that nobody has the other half of. */
async function nobodysKey(crypto: CryptoProvider, kind: PublicKeyKind): Promise<PublicKey> {
  if (kind !== "rsa") {
    const { pkcs8, spki } = await crypto.generateKeyPair(kind);
    wipe(pkcs8);
    return crypto.importPublicKey(spki);
  }
  const modulus = crypto.randomBytes(256);
  modulus[0] = (modulus[0] as number) | 0x80;
  modulus[255] = (modulus[255] as number) | 1;
  return crypto.importPublicKey(concatBytes(RSA_2048_HEAD, modulus, RSA_2048_TAIL));
}

/** Whether HELLO is among the extensions of an I_MESSAGE: the exchange may then have numbers of docs/protocol.md (§4.2). */
export function announces(extensions: readonly GeneralExtensionPayload[]): boolean {
  return extensions.some(({ extType, data }) => extType === ExtensionType.HELLO && data[0] === PROTOCOL_VERSION);
}

/** The DH-Group of a group of src/crypto. */
export function dhGroupOf(group: AgreementGroup): number {
  return GROUP_NUMBERS.get(group) as number;
}

/** The group of a DH-Group; undefined where there is none. */
export function groupOf(dhGroup: number): AgreementGroup | undefined {
  return entryOf(DhGroup, dhGroup)?.group;
}

const GROUP_NUMBERS: ReadonlyMap<string, number> = new Map(
  entriesOf(DhGroup).map((row) => [(row as unknown as { readonly group: AgreementGroup }).group, row.value]),
);

/** True for the groups that RFC 3830 knows. */
export function isStandardGroup(group: AgreementGroup): boolean {
  return group !== "x25519" && group !== "p256";
}

/**
 * The first of a list that may be sent: with HELLO any, without it the first that the RFCs of the mode know; a list without such a
 * one is meant as it is.
 */
export function preferred<T>(values: readonly T[], announced: boolean, isStandard: (value: T) => boolean): T {
  return (announced ? values[0] : (values.find(isStandard) ?? values[0])) as T;
}

/** The schemes that a message may be signed with: those of SIGNX only beside HELLO (docs/protocol.md). */
export function usableSchemes(policy: CompiledPolicy, announced: boolean): readonly SignatureScheme[] {
  return announced ? policy.signatureSchemes : policy.standardSchemes;
}

/**
 * Whether a message is signed by this party. The signature is checked whether its key is good, of the kind that signed, or not there at all, then under
 * one that nobody has: failures look and take alike.
 */
export async function isSignedByPeer(
  crypto: CryptoProvider,
  policy: CompiledPolicy,
  message: DecodedMessage,
  peer: PeerKey | undefined,
  announced: boolean,
  use: ToleranceUse,
  suffix: readonly Uint8Array[] = [],
): Promise<boolean> {
  const kind = signatureKind(message);
  const own = peer?.publicKey.kind === kind ? peer.publicKey : undefined;
  const schemes = usableSchemes(policy, announced);
  const right = await verifySignature(crypto, message, own ?? (await policy.nobody(kind)), schemes, use, suffix);
  return right && own !== undefined;
}
