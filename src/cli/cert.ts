import { Command, InvalidArgumentError } from "commander";
import { formatHex } from "../bytes/index.js";
import type { CertificateUsage, PrivateKey, PublicKey, Signer } from "../crypto/index.js";
import type { Certificate, Issuer, NamesByKind } from "../crypto/x509/index.js";
import { systemClock } from "../node/index.js";
import { collectRevocationLists } from "./credentials.js";
import { describeKey } from "./keygen.js";
import { integerBetween, UsageError } from "./options.js";
import { readCertificateFile, readPrivateKeyFile, readPublicKeyFile, writePemFile } from "./pem.js";

const DAY = 86_400_000;

/** Clocks differ: a certificate is good from a little before it was made. */
const SKEW = 300_000;

/** ASN.1 is read where a certificate is made or checked, and by no other command. */
const loadX509 = (): Promise<typeof import("../crypto/x509/index.js")> => import("../crypto/x509/index.js");

interface SubjectOptions {
  readonly out: string;
  readonly name?: string;
  readonly days: number;
  readonly ca?: readonly Uint8Array[];
  readonly caKey?: PrivateKey;
  readonly force?: boolean;
}

interface AuthorityOptions extends SubjectOptions {
  readonly key: PrivateKey;
  readonly pathLength?: number;
  readonly permitDns?: readonly string[];
  readonly permitUri?: readonly string[];
  readonly permitEmail?: readonly string[];
  readonly permitIp?: readonly string[];
}

interface HolderOptions extends SubjectOptions {
  readonly ca: readonly Uint8Array[];
  readonly caKey: PrivateKey;
  readonly key: PublicKey;
  readonly uri?: readonly string[];
  readonly dns?: readonly string[];
  readonly email?: readonly string[];
  readonly ip?: readonly string[];
  readonly usage?: readonly CertificateUsage[];
}

interface CheckOptions {
  readonly ca?: readonly Uint8Array[];
  readonly crl?: readonly Uint8Array[];
  readonly identity?: string;
  readonly usage?: readonly CertificateUsage[];
  readonly allowSelfSigned?: boolean;
}

/** `watchword cert`: makes certificates for tests and small deployments, and says whether one is good. */
export function certCommand(): Command {
  const command = new Command("cert").description("make and check certificates");
  command.addCommand(authorityCommand());
  command.addCommand(issueCommand());
  command.addCommand(revokeCommand());
  command.addCommand(checkCommand());
  return command;
}

function collect(text: string, previous: readonly string[] | undefined): readonly string[] {
  return [...(previous ?? []), text];
}

function collectCertificates(path: string, previous: readonly Uint8Array[] | undefined): readonly Uint8Array[] {
  return [...(previous ?? []), ...readCertificateFile(path)];
}

/** @throws InvalidArgumentError */
function parseUsages(text: string): readonly CertificateUsage[] {
  return text.split(",").map((usage) => {
    if (usage === "signature" || usage === "encryption") return usage;
    throw new InvalidArgumentError("expected signature, encryption, or signature,encryption");
  });
}

function authorityCommand(): Command {
  return new Command("ca")
    .description("make the certificate of an authority: self-signed, or under another one")
    .requiredOption("--key <file>", "its private key, from `watchword keygen`", readPrivateKeyFile)
    .requiredOption("--out <file>", "where the certificate goes, PEM")
    .option("--name <text>", "its common name", "watchword test CA")
    .option("--days <n>", "how long it is valid", integerBetween(1, 36_500), 3650)
    .option("--path-length <n>", "how many authorities may stand below it", integerBetween(0, 8))
    .option("--permit-dns <domain>", "certify names in this domain alone; may be repeated", collect)
    .option(
      "--permit-uri <host>",
      "certify URIs at this host, or below .DOMAIN, alone (other programs then refuse SIP URIs); may be repeated",
      collect,
    )
    .option("--permit-email <host>", "certify addresses at this host, or below .DOMAIN, alone; may be repeated", collect)
    .option("--permit-ip <network>", "certify addresses of this network alone, for example 10.0.0.0/8; may be repeated", collect)
    .option("--ca <file>", "the authority above it, if there is one", readCertificateFile)
    .option("--ca-key <file>", "the private key of the authority above", readPrivateKeyFile)
    .option("--force", "replace a file that is there")
    .addHelpText(
      "after",
      `
Examples:
  watchword keygen p256 --out ca.key
  watchword cert ca --key ca.key --out ca.pem --permit-uri example.org`,
    )
    .action(async (options: AuthorityOptions) => {
      const { key, pathLength, permitDns, permitUri, permitEmail, permitIp, ca, caKey } = options;
      if ((ca === undefined) !== (caKey === undefined)) throw new UsageError("--ca and --ca-key go together");
      const issuer = ca !== undefined && caKey !== undefined ? { chain: ca, signer: caKey } : undefined;
      const permitted: NamesByKind = {
        ...(permitDns && { dnsNames: permitDns }),
        ...(permitUri && { uris: permitUri }),
        ...(permitEmail && { emails: permitEmail }),
        ...(permitIp && { addresses: permitIp }),
      };
      const authority = {
        ...(pathLength !== undefined && { pathLength }),
        ...(Object.keys(permitted).length > 0 && { permitted }),
      };
      await issue(options, { publicKey: key.publicKey, authority, commonName: options.name as string }, issuer ?? key);
    });
}

function issueCommand(): Command {
  return new Command("issue")
    .description("make the certificate of a party: who it is, and what its key is for")
    .requiredOption("--ca <file>", "the authority: its certificate, and those above it but the root's", readCertificateFile)
    .requiredOption("--ca-key <file>", "the private key of the authority", readPrivateKeyFile)
    .requiredOption("--key <file>", "the party's private or public key", readPublicKeyFile)
    .requiredOption("--out <file>", "where the certificate goes, PEM, with those that lead to the root")
    .option("--uri <uri>", "who the party is: sip:alice@example.org, rtsp://camera.example.org/; may be repeated", collect)
    .option("--dns <name>", "a host name of the party; may be repeated", collect)
    .option("--email <address>", "an address or network access identifier of the party; may be repeated", collect)
    .option("--ip <address>", "an address of the party; may be repeated", collect)
    .option("--usage <list>", "what the key is for: signature, encryption, or both; default: all that it can", parseUsages)
    .option("--name <text>", "common name; nothing is decided by it")
    .option("--days <n>", "how long it is valid, at most as long as the authority", integerBetween(1, 36_500), 365)
    .option("--force", "replace a file that is there")
    .addHelpText(
      "after",
      `
Examples:
  watchword keygen rsa --out alice.key
  watchword cert issue --ca ca.pem --ca-key ca.key --key alice.key --uri sip:alice@example.org --out alice.pem
  watchword cert check alice.pem --ca ca.pem --identity sip:alice@example.org`,
    )
    .action(async (options: HolderOptions) => {
      const { key, uri = [], dns = [], email = [], ip = [] } = options;
      const identities = [...uri, ...email, ...dns, ...ip];
      if (identities.length === 0) throw new UsageError("say who the party is: --uri, --dns, --email or --ip");
      if (key.kind !== "rsa" && options.usage?.includes("encryption"))
        throw new UsageError(`a key of kind ${key.kind} cannot encrypt`);
      const content = {
        publicKey: key,
        commonName: options.name ?? (identities[0] as string),
        uris: uri,
        dnsNames: dns,
        emails: email,
        addresses: ip,
        usages: options.usage ?? (key.kind === "rsa" ? (["signature", "encryption"] as const) : (["signature"] as const)),
      };
      await issue(options, content, { chain: options.ca, signer: options.caKey });
    });
}

interface RevokeOptions {
  readonly ca: readonly Uint8Array[];
  readonly caKey: PrivateKey;
  readonly out: string;
  readonly crl?: readonly Uint8Array[];
  readonly days: number;
  readonly force?: boolean;
}

function revokeCommand(): Command {
  return new Command("revoke")
    .description("make the revocation list of an authority: which of its certificates are good no more")
    .argument("[file...]", "PEM: the certificate of each party")
    .requiredOption("--ca <file>", "the authority: its certificate", readCertificateFile)
    .requiredOption("--ca-key <file>", "the private key of the authority", readPrivateKeyFile)
    .requiredOption("--out <file>", "where the list goes, PEM")
    .option("--crl <file>", "a list of the authority whose entries are taken over; may be repeated", collectRevocationLists)
    .option(
      "--days <n>",
      "how long the list is good: beyond that nobody's certificate is, until there is a new list",
      integerBetween(1, 36_500),
      30,
    )
    .option("--force", "replace a file that is there")
    .addHelpText(
      "after",
      `
Examples:
  watchword cert revoke mallory.pem --ca ca.pem --ca-key ca.key --out ca.crl
  watchword cert revoke eve.pem --ca ca.pem --ca-key ca.key --crl ca.crl --out ca.crl --force
  watchword serve --key camera.key --cert camera.pem --ca ca.pem --crl ca.crl`,
    )
    .action(revoke);
}

async function revoke(files: readonly string[], { ca, caKey, out, crl = [], days, force = false }: RevokeOptions): Promise<void> {
  const { issueRevocationList, readCertificate, readRevocationList } = await loadX509();
  const certificate = ca[0] as Uint8Array;
  const authority = readCertificate(certificate);
  if (formatHex(authority.spki) !== formatHex(caKey.publicKey.spki)) throw new UsageError("--ca-key is not the key of --ca");
  const isOurs = ({ issuerRdns }: { readonly issuerRdns: string }): boolean => issuerRdns === authority.subjectRdns;
  const before = crl.map((der) => readRevocationList(der));
  if (!before.every(isOurs)) throw new UsageError("--crl holds a list of another authority");
  const named = files.map((path) => {
    const holder = readCertificate(readCertificateFile(path)[0] as Uint8Array);
    if (!isOurs(holder)) throw new UsageError(`${path} was issued by another authority`);
    return holder.serial;
  });
  const revoked = [...new Set([...before.flatMap((list) => [...list.revoked]), ...named])];
  const thisUpdate = systemClock.now() - SKEW;
  const nextUpdate = systemClock.now() + days * DAY;
  const der = await issueRevocationList({ issuer: { certificate, signer: caKey }, thisUpdate, nextUpdate, revoked });
  writePemFile(out, [{ label: "X509 CRL", der }], { force });
  process.stdout.write(`${out}: ${revoked.length} revoked, good until ${new Date(nextUpdate).toISOString()}\n`);
}

type Content = Omit<import("../crypto/x509/index.js").CertificateContent, "issuer" | "notBefore" | "notAfter">;

/** Issues a certificate and writes it, followed by those that lead to the root. */
async function issue(
  { out, days, force = false }: SubjectOptions,
  content: Content,
  by: { readonly chain: readonly Uint8Array[]; readonly signer: PrivateKey } | Signer,
): Promise<void> {
  const { issueCertificate, readCertificate } = await loadX509();
  let issuer: Issuer | Signer;
  const now = systemClock.now();
  let notAfter = now + days * DAY;
  let above: readonly Uint8Array[] = [];
  if ("chain" in by) {
    const certificate = by.chain[0] as Uint8Array;
    const authority = readCertificate(certificate);
    if (!authority.isCa) throw new UsageError(`${authority.subject} is no authority`);
    if (formatHex(authority.spki) !== formatHex(by.signer.publicKey.spki)) throw new UsageError("--ca-key is not the key of --ca");
    // A certificate outlives none of its issuers: it would seem good and not be.
    notAfter = Math.min(notAfter, authority.notAfter);
    above = by.chain.filter((der) => !isRoot(readCertificate(der)));
    issuer = { certificate, signer: by.signer };
  } else issuer = by;
  const certificate = await issueCertificate({ ...content, issuer, notBefore: now - SKEW, notAfter });
  writePemFile(
    out,
    [certificate, ...above].map((der) => ({ label: "CERTIFICATE", der })),
    { force },
  );
  process.stdout.write(`${out}: ${describeCertificate(readCertificate(certificate))}\n`);
}

function isRoot({ subjectRdns, issuerRdns }: Certificate): boolean {
  return subjectRdns === issuerRdns;
}

function checkCommand(): Command {
  return new Command("check")
    .description("say whether a certificate is good, and if not, why; exits with 1 where it is not")
    .argument("<file>", "PEM: the certificate, and those that lead to the root", readCertificateFile)
    .option("--ca <file>", "authorities to trust; may be repeated", collectCertificates)
    .option("--crl <file>", "revocation lists; may be repeated", collectRevocationLists)
    .option("--identity <who>", "who the party has to be: a SIP or RTSP URI, an address, a host")
    .option("--usage <list>", "what the key has to be for: signature, encryption, or both", parseUsages)
    .option("--allow-self-signed", "take a certificate that no authority vouches for")
    .addHelpText(
      "after",
      `
Examples:
  watchword cert check alice.pem --ca ca.pem --identity sip:alice@example.org --usage signature,encryption`,
    )
    .action(async (chain: readonly Uint8Array[], options: CheckOptions) => {
      const { ca = [], crl = [], identity, usage = ["signature"], allowSelfSigned = false } = options;
      const { createCertificateVerifier, readCertificate } = await loadX509();
      const [leaf] = chain as [Uint8Array];
      process.stdout.write(`${describeCertificate(readCertificate(leaf))}\n`);
      const verifier = createCertificateVerifier({ roots: ca, crls: crl, allowSelfSigned });
      const { trust } = await verifier.verify(chain, {
        now: systemClock.now(),
        usage,
        ...(identity !== undefined && { identity }),
      });
      const because = {
        anchor: "an authority vouches for it",
        pinned: "it is among the trusted",
        "self-signed": "it is self-signed, which is allowed",
      };
      process.stdout.write(`good: ${because[trust]}\n`);
    });
}

function describeCertificate({ subject, identities, publicKey, notAfter, isCa, keyUsage, fingerprint }: Certificate): string {
  const usages = [...(keyUsage ?? ["everything"])].join(", ");
  const who = identities.length > 0 ? ` for ${identities.join(", ")}` : "";
  return [
    `${isCa ? "authority" : "certificate"} ${subject}${who}`,
    `  key: ${publicKey === undefined ? "of a kind that is not used here" : describeKey(publicKey)}, for ${usages}`,
    `  valid until ${new Date(notAfter).toISOString()}, SHA-256 ${formatHex(fingerprint)}`,
  ].join("\n");
}
