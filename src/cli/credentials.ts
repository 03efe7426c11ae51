import { type Command, InvalidArgumentError, Option } from "commander";
import { formatHex } from "../bytes/index.js";
import { type CertificateVerifier, certificatesOf, type PrivateKey, parsePem } from "../crypto/index.js";
import { type Credential, type KeyPairCredential, type MikeyPolicy, type ModeName, RFC_3830_ALGORITHMS } from "../mikey/index.js";
import { type Psk, UsageError } from "./options.js";
import { readCertificateFile, readPrivateKeyFile, readRevocationListFile } from "./pem.js";

/** Modes of MIKEY as command lines and configurations call them. */
export const MODES = { psk: "PSK", pk: "PK", dh: "DH", dhhmac: "DHHMAC", "rsa-r": "RSA-R" } as const satisfies Readonly<
  Record<string, ModeName>
>;
export type ModeOption = keyof typeof MODES;
export const MODE_NAMES = Object.keys(MODES) as readonly ModeOption[];
const KEY_PAIR_MODES: readonly ModeOption[] = ["dh", "rsa-r", "pk"];
const PSK_MODES: readonly ModeOption[] = ["dhhmac", "psk"];
type KeyPairMode = "PK" | "DH" | "RSA-R";

/** Whether a mode stands on a pre-shared key, and not on key pairs. */
export function isSharedKeyMode(mode: ModeOption): boolean {
  return mode === "psk" || mode === "dhhmac";
}

/** What says who we are, and whom to believe. */
export interface CredentialFlags {
  readonly psk?: Psk | readonly Psk[];
  readonly pskFile?: readonly Psk[];
  readonly key?: PrivateKey;
  readonly cert?: readonly Uint8Array[];
  /** PEM. */
  readonly ca?: string;
  readonly crl?: readonly Uint8Array[];
  readonly peerCert?: readonly (readonly Uint8Array[])[];
  readonly peer?: readonly string[];
  /** In the order of preference. */
  readonly mode?: readonly ModeOption[];
  readonly algorithms?: "current" | "rfc3830";
}

interface ModeChoice {
  readonly mode?: CredentialFlags["mode"] | undefined;
}

/** The options that the commands have in common; `--psk` and `--ca` are each command's own. */
export function addCredentialOptions(command: Command): Command {
  return command
    .option("--key <file>", "our private key, PEM", readPrivateKeyFile)
    .option("--cert <file>", "its certificate and those that lead to the root, PEM; it says who we are", readCertificateFile)
    .option(
      "--crl <file>",
      "with --key: revocation lists of the issuers of --ca, PEM, for certificates of key messages; repeatable",
      collectRevocationLists,
    )
    .option("--peer-cert <file>", "the other party's certificate, which mode pk needs of who begins; repeatable", collectChain)
    .option("--peer <who>", "who the other party has to be, as its certificate names it; repeatable", collect)
    .addOption(
      new Option(
        "--mode <modes>",
        `how keys are exchanged, one or several of ${MODE_NAMES.join(", ")}: no other way is taken, and the first that the credentials allow is how we begin`,
      ).argParser(parseModes),
    )
    .addOption(
      new Option(
        "--algorithms <which>",
        "with --key: current, or rfc3830 for peers that know RFC 3830 alone: SHA-1 in signatures, and RSAES-PKCS1-v1_5 too",
      )
        .choices(["current", "rfc3830"])
        .default("current"),
    );
}

/** @throws InvalidArgumentError listing the names */
function parseModes(text: string): readonly ModeOption[] {
  return text.split(",").map((part) => {
    const mode = MODE_NAMES.find((name) => name === part.trim());
    if (mode === undefined) throw new InvalidArgumentError(`known modes: ${MODE_NAMES.join(", ")}`);
    return mode;
  });
}

function collect(text: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, text];
}

/** Collects a repeatable option that names a file of certificates. */
export function collectChain(path: string, previous: readonly (readonly Uint8Array[])[] = []): readonly (readonly Uint8Array[])[] {
  return [...previous, readCertificateFile(path)];
}

/** Collects a repeatable option that names a file of revocation lists. */
export function collectRevocationLists(path: string, previous: readonly Uint8Array[] = []): readonly Uint8Array[] {
  return [...previous, ...readRevocationListFile(path)];
}

/** The pre-shared keys of the command line. */
export function pskOf({ psk, pskFile = [] }: CredentialFlags): readonly Psk[] {
  return [...(psk === undefined ? [] : [psk].flat()), ...pskFile];
}

/**
 * @param kinds whether the command takes pre-shared keys and a key pair at once
 * @throws UsageError for options that do not belong together
 */
export function checkCredentials(flags: CredentialFlags, kinds: "one" | "several" = "one"): void {
  const { key, cert, ca, crl, peerCert, mode: modes = [], algorithms } = flags;
  const psks = pskOf(flags);
  if ((key === undefined) !== (cert === undefined)) throw new UsageError("--key and --cert go together");
  if (key !== undefined && psks.length > 0 && kinds === "one") throw new UsageError("give --psk or --key, not both");
  if (key !== undefined && ca === undefined)
    throw new UsageError("with --key, --ca says whose certificates are good: make one with `watchword cert ca`");
  if (key === undefined && peerCert !== undefined) throw new UsageError("--peer-cert and --key go together");
  if (key === undefined && crl !== undefined) throw new UsageError("--crl and --key go together");
  if (key === undefined && algorithms === "rfc3830") throw new UsageError("--algorithms rfc3830 and --key go together");
  for (const mode of modes) {
    const byPsk = isSharedKeyMode(mode);
    if (byPsk && psks.length === 0) throw new UsageError(`--mode ${mode} needs --psk or --psk-file`);
    if (!byPsk && key === undefined) throw new UsageError(`--mode ${mode} needs --key, --cert and --ca`);
    if (!byPsk && mode !== "dh" && key?.publicKey.kind !== "rsa")
      throw new UsageError(`--mode ${mode} needs an RSA key: other keys do not decrypt`);
  }
  if (modes.length === 0) return;
  if (key !== undefined && modes.every(isSharedKeyMode)) throw new UsageError(`--key is of no use with --mode ${modes.join(",")}`);
  if (psks.length > 0 && !modes.some(isSharedKeyMode))
    throw new UsageError(`a pre-shared key is of no use with --mode ${modes.join(",")}`);
}

/** The mode that pre-shared keys are offered in: the first of them that `--mode` names. */
export function pskMode({ mode = [] }: ModeChoice): "PSK" | "DHHMAC" {
  return mode.find(isSharedKeyMode) === "dhhmac" ? "DHHMAC" : "PSK";
}

/** Whether exchanges are begun under a pre-shared key where there is a key pair as well: `--mode` says so. */
export function prefersPsk({ mode: [first] = [] }: ModeChoice): boolean {
  return first !== undefined && isSharedKeyMode(first);
}

/** What is acceptable of key messages where there is no key pair: what `--mode` says, or everything. */
export function pskPolicy({ mode }: ModeChoice): { readonly policy?: MikeyPolicy } {
  return mode === undefined ? {} : { policy: { modes: mode.map((name) => MODES[name]) } };
}

/** Our key pair, ready for use. */
export interface KeyPairIdentity {
  readonly keyPair: KeyPairCredential;
  /** Whom our certificate names. */
  readonly names: readonly string[];
  readonly policy: MikeyPolicy;
  /** Whether messages to who announced nothing can be signed: RSA, as RFC 3830 has it. */
  readonly standard: boolean;
  /**
   * What an exchange is begun with.
   * @param party what the other one may be called
   * @returns undefined where mode PK lacks its certificate
   */
  credentialFor(party: readonly string[], usual: KeyPairMode): Credential | undefined;
}

/**
 * Reads what the flags name.
 * @param expected who the other party has to be, where `--peer` does not say it. Default: everybody whom `--ca` vouches for
 * @returns undefined without `--key`
 * @throws UsageError, CertificateError
 */
export async function loadKeyPair(
  flags: CredentialFlags,
  report: (line: string) => void,
  expected: readonly string[] = [],
): Promise<KeyPairIdentity | undefined> {
  const { key, cert, ca, crl, peer, peerCert, mode, algorithms } = flags;
  if (key === undefined || cert === undefined || ca === undefined) return undefined;
  return openKeyPair(
    {
      key,
      chain: cert,
      roots: certificatesIn(ca),
      ...(crl === undefined ? {} : { revocations: crl }),
      expected: peer ?? expected,
      modes: mode ?? (pskOf(flags).length > 0 ? [...KEY_PAIR_MODES, ...PSK_MODES] : KEY_PAIR_MODES),
      ...(mode === undefined ? {} : { begin: mode.find((name) => !isSharedKeyMode(name)) }),
      ...(peerCert === undefined ? {} : { peers: peerCert }),
      ...(algorithms === "rfc3830" ? { algorithms: RFC_3830_ALGORITHMS } : {}),
    },
    report,
  );
}

/** Our key pair, and whom we believe. */
export interface KeyPairFiles {
  readonly key: PrivateKey;
  /** Our certificate first. */
  readonly chain: readonly Uint8Array[];
  readonly roots: readonly Uint8Array[];
  readonly revocations?: readonly Uint8Array[];
  /** Who the other party has to be; empty for everybody whom the roots vouch for. */
  readonly expected: readonly string[];
  /** Certificates that mode PK encrypts to. */
  readonly peers?: readonly (readonly Uint8Array[])[];
  /** What is acceptable, in the order of preference. */
  readonly modes: readonly ModeOption[];
  /** The mode of key pairs that is begun by. Default: as usual where it is used. */
  readonly begin?: ModeOption | undefined;
  readonly algorithms?: Pick<MikeyPolicy, "signatureSchemes" | "encryptionSchemes">;
}

/** @throws UsageError, CertificateError */
export async function openKeyPair(files: KeyPairFiles, report: (line: string) => void): Promise<KeyPairIdentity> {
  const { key, chain, roots, revocations = [], expected: names, modes, begin, algorithms } = files;
  // ASN.1 is read where there are certificates, and nowhere else.
  const { createCertificateVerifier, readCertificate } = await import("../crypto/x509/index.js");
  const [own] = chain.map((der) => readCertificate(der)) as [ReturnType<typeof readCertificate>];
  if (formatHex(own.spki) !== formatHex(key.publicKey.spki))
    throw new UsageError("the private key is not the key of the certificate");
  if (own.identities.length === 0)
    throw new UsageError("the certificate names nobody: issue it with --uri, --dns, --email or --ip");
  const peers = (files.peers ?? []).map((certificates) => ({
    chain: certificates,
    names: readCertificate(certificates[0] as Uint8Array).identities,
  }));
  const verifier = createCertificateVerifier({ roots, crls: revocations });
  const certificates: CertificateVerifier = names.length === 0 ? verifier : certificatesOf(verifier, names);
  const keyPair: KeyPairCredential = { privateKey: key, chain };
  const standard = key.publicKey.kind === "rsa";
  return {
    keyPair,
    names: own.identities,
    standard,
    policy: {
      modes: modes.map((name) => MODES[name]),
      certificates,
      ...algorithms,
      // Who signs by a curve agrees over one.
      ...(standard ? {} : { groups: ["x25519", "p256", "modp1536"] as const }),
      // Reasons may quote what the peer wrote.
      onRefusal: (reason) => report(`key message not accepted: ${reason.replace(/[^ -~]/g, "?").slice(0, 200)}`),
    },
    credentialFor(party, usual) {
      const chosen = begin === undefined ? (standard ? usual : "DH") : (MODES[begin] as KeyPairMode);
      if (chosen !== "PK") return { mode: chosen, keyPair };
      const peer = peers.length === 1 ? peers[0] : peers.find(({ names: named }) => named.some((name) => party.includes(name)));
      return peer === undefined ? undefined : { mode: chosen, keyPair, peer: { chain: peer.chain } };
    },
  };
}

/** @throws InvalidArgumentError */
export function certificatesIn(pem: string): readonly Uint8Array[] {
  const certificates = parsePem(pem).filter(({ label }) => label === "CERTIFICATE");
  if (certificates.length === 0) throw new InvalidArgumentError("--ca holds no CERTIFICATE");
  return certificates.map(({ der }) => der);
}
