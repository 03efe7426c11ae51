import { Command } from "commander";
import { formatHex, wipe } from "../bytes/index.js";
import { defaultCrypto, type PublicKey, type PublicKeyKind } from "../crypto/index.js";
import { integerBetween } from "./options.js";
import { writePemFile } from "./pem.js";

/** What `keygen` calls the kinds of key pairs. */
const KINDS: readonly { readonly name: string; readonly kind: PublicKeyKind; readonly purpose: string }[] = [
  { name: "rsa", kind: "rsa", purpose: "make an RSA key pair: for the modes PK, DH and RSA-R of RFC 3830 and RFC 4738" },
  { name: "p256", kind: "ec-p256", purpose: "make a P-256 key pair: to sign, with peers that announce it, and for certificates" },
  {
    name: "ed25519",
    kind: "ed25519",
    purpose: "make an Ed25519 key pair: to sign, with peers that announce it, and for certificates",
  },
];

/** `watchword keygen`: makes credentials. */
export function keygenCommand(): Command {
  const command = new Command("keygen").description("make credentials");
  command
    .command("psk")
    .description("make a pre-shared key and print it as ID:HEX, the form that --psk and --psk-file take")
    .option("--id <name>", "who the key belongs to", "default")
    .option("--octets <n>", "length of the key", integerBetween(16, 64), 32)
    .addHelpText(
      "after",
      `
Examples:
  watchword keygen psk --id camera7 >> keys.txt
  watchword serve --psk-file keys.txt`,
    )
    .action((options: { id: string; octets: number }) => {
      process.stdout.write(`${options.id}:${formatHex(defaultCrypto.randomBytes(options.octets))}\n`);
    });
  for (const { name, kind, purpose } of KINDS) command.addCommand(keyPairCommand(name, kind, purpose));
  return command;
}

interface KeyPairOptions {
  readonly out: string;
  readonly public?: string;
  readonly bits?: number;
  readonly force?: boolean;
}

function keyPairCommand(name: string, kind: PublicKeyKind, purpose: string): Command {
  const command = new Command(name)
    .description(purpose)
    .requiredOption("--out <file>", "where the private key goes: PEM, PKCS#8, not encrypted, readable by you alone")
    .option("--public <file>", "where the public key goes, if it is wanted by itself")
    .option("--force", "replace a file that is there");
  if (kind === "rsa") command.option("--bits <n>", "length of the modulus", integerBetween(2048, 8192), 2048);
  return command
    .addHelpText(
      "after",
      `
Examples:
  watchword keygen ${name} --out alice.key
  watchword cert issue --ca ca.pem --ca-key ca.key --key alice.key --uri sip:alice@example.org --out alice.pem`,
    )
    .action(async (options: KeyPairOptions) => {
      const { pkcs8, spki } = await defaultCrypto.generateKeyPair(kind, options.bits);
      const { force = false } = options;
      writePemFile(options.out, [{ label: "PRIVATE KEY", der: pkcs8 }], { secret: true, force });
      wipe(pkcs8);
      if (options.public !== undefined) writePemFile(options.public, [{ label: "PUBLIC KEY", der: spki }], { force });
      process.stdout.write(`${options.out}: ${describeKey(defaultCrypto.importPublicKey(spki))}\n`);
    });
}

/** The kind of a public key, and a fingerprint of it: SHA-256 of its SubjectPublicKeyInfo. */
export function describeKey({ kind, bits, spki }: PublicKey): string {
  const names: Readonly<Record<PublicKeyKind, string>> = { rsa: `RSA, ${bits} bits`, "ec-p256": "P-256", ed25519: "Ed25519" };
  return `${names[kind]}, public key ${formatHex(defaultCrypto.hash("sha256", spki))}`;
}
