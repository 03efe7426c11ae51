import { dirname, resolve } from "node:path";
import { InvalidArgumentError } from "commander";
import { parse } from "yaml";
import { parseBase64, utf8Text, WatchwordError } from "../bytes/index.js";
import { defaultCrypto } from "../crypto/index.js";
import { definitionFields, type GroupDefinition, readGroupDefinition } from "../gcks/index.js";
import type { Endpoint } from "../io/index.js";
import { type CredentialData, decodeCredential } from "../mikey/index.js";
import type {
  AdminOptions,
  ControlOptions,
  GcksServiceOptions,
  RtspListenerOptions,
  SipListenerOptions,
} from "../node/group/index.js";
import { openSqliteStore, readSealingKey, type SealingKeySource, systemClock, systemTimers } from "../node/index.js";
import { createSipDirectory, partyOf } from "../sip/index.js";
import { createMemoryStore, openSealedStore, type Store } from "../store/index.js";
import { isSharedKeyMode, type KeyPairIdentity, MODE_NAMES, MODES, type ModeOption, openKeyPair } from "./credentials.js";
import { parseEndpoint, parseLines, parsePsk, parseUser, readSecretFile, readTextFile, UsageError } from "./options.js";
import { readCertificateFile, readPrivateKeyFile, readRevocationListFile } from "./pem.js";

type Fields = ReturnType<typeof definitionFields>;

/** Where a secret is: in a file, or in a variable of the environment. */
type SecretSource = SealingKeySource;

/** A configuration file, checked; the files that it names are not read yet. */
export interface GcksConfig {
  readonly identity: string;
  readonly groups: readonly GroupDefinition[];
  /** Files of owners' credentials by name of the group. */
  readonly credentials: ReadonlyMap<string, string>;
  /** A file of ID:HEX lines. */
  readonly keys: string | undefined;
  readonly certificates: CertificateFiles | undefined;
  /** How registrations may be keyed. */
  readonly modes: readonly ModeOption[];
  readonly signingKey: string | undefined;
  readonly store: { readonly file: string; readonly key: SecretSource } | undefined;
  readonly outside: string | undefined;
  readonly sip: readonly WithFiles<SipListenerOptions>[];
  readonly rtsp: readonly WithFiles<RtspListenerOptions>[];
  readonly control: ControlOptions;
  readonly admin: { readonly local: Endpoint; readonly token: SecretSource } | undefined;
}

/** Our key pair, and whose certificates are good. */
interface CertificateFiles {
  readonly key: string;
  readonly certificate: string;
  /** Files by the name that rules of access have for them. */
  readonly issuers: ReadonlyMap<string, string>;
  readonly revocations: readonly string[];
}

interface TlsFiles {
  readonly certificate: string;
  readonly key: string;
  /** Issuers of certificates that clients have to show. */
  readonly clientCa?: string;
  /** Revocation lists of those issuers. */
  readonly clientCrls?: readonly string[];
}

/** A listener whose secrets are in files. */
type WithFiles<T> = Omit<T, "tls" | "password"> & {
  readonly tls?: TlsFiles;
  /** NAME:PASSWORD a line: who is asked for a password. */
  readonly users?: string;
};

/**
 * Reads the configuration of a key server (docs/gcks.md). File names in it are relative to its folder.
 * @throws WatchwordError `cli.yaml`, `gcks.definition` with the path of the field
 */
export function parseGcksConfig(text: string, folder = "."): GcksConfig {
  let value: unknown;
  try {
    value = parse(text, { maxAliasCount: 0, logLevel: "error" });
  } catch (error) {
    throw new WatchwordError("cli.yaml", `the configuration is no YAML: ${(error as Error).message.split("\n")[0]}`);
  }
  const root = definitionFields(value, "config");
  const file = (fields: Fields, key: string): string => resolve(folder, fields.text(key));
  const optionalFile = (fields: Fields, key: string): string | undefined => fields.optional(key, () => file(fields, key));
  const files = (fields: Fields, key: string, least: number): readonly string[] =>
    fields.list(key, (item, path) => (typeof item === "string" && item !== "" ? item : notFile(path)), least, 64);
  const security = (fields: Fields): { tls?: TlsFiles; users?: string } => {
    const certificate = optionalFile(fields, "certificate");
    const key = optionalFile(fields, "key");
    const clientCa = optionalFile(fields, "clientCa");
    const clientCrls = fields.optional("clientCrls", (name) => files(fields, name, 1).map((list) => resolve(folder, list)));
    const users = optionalFile(fields, "users");
    if ((certificate === undefined) !== (key === undefined)) fields.fail("key", "and certificate go together");
    if (clientCa !== undefined && certificate === undefined)
      fields.fail("clientCa", "needs a certificate of ours: it is TLS that asks");
    if (clientCrls !== undefined && clientCa === undefined) fields.fail("clientCrls", "goes with clientCa");
    return {
      ...(certificate === undefined || key === undefined
        ? {}
        : {
            tls: {
              certificate,
              key,
              ...(clientCa === undefined ? {} : { clientCa }),
              ...(clientCrls === undefined ? {} : { clientCrls }),
            },
          }),
      ...(users === undefined ? {} : { users }),
    };
  };
  const credentials = new Map<string, string>();
  const keys = optionalFile(root, "keys");
  const certificates = root.optional("certificates", (key): CertificateFiles => {
    const fields = definitionFields(root.value(key), root.path(key));
    const found = {
      key: file(fields, "key"),
      certificate: file(fields, "certificate"),
      issuers: new Map(files(fields, "issuers", 1).map((name) => [name, resolve(folder, name)])),
      revocations: fields.optional("revocations", (name) => files(fields, name, 0).map((list) => resolve(folder, list))) ?? [],
    };
    fields.finish();
    return found;
  });
  const config: GcksConfig = {
    identity: identityIn(root, "identity"),
    keys,
    certificates,
    modes: modesIn(root, keys !== undefined, certificates !== undefined),
    signingKey: optionalFile(root, "signingKey"),
    outside: optionalFile(root, "expulsions"),
    store: root.optional("store", (key) => {
      const store = definitionFields(root.value(key), root.path(key));
      const found = { file: file(store, "file"), key: secret(store, "key", folder) };
      store.finish();
      return found;
    }),
    sip:
      root.optional("sip", (key) =>
        root.list(
          key,
          (item, path) => {
            const listener = definitionFields(item, path);
            const transport = listener.choice("transport", ["udp", "tcp", "tls", "ws"] as const);
            const publicHost = listener.optional("publicHost", (name) => listener.text(name));
            const found = {
              transport,
              local: endpointIn(listener, "listen"),
              ...(publicHost === undefined ? {} : { publicHost }),
              ...security(listener),
            };
            if (transport !== "tls" && found.tls?.clientCa !== undefined)
              listener.fail("clientCa", "goes with transport tls: no browser shows certificates to WebSockets");
            if (transport === "tls" && found.tls === undefined) listener.fail("certificate", "is missing: TLS needs one");
            listener.finish();
            return found;
          },
          0,
          16,
        ),
      ) ?? [],
    rtsp:
      root.optional("rtsp", (key) =>
        root.list(
          key,
          (item, path) => {
            const listener = definitionFields(item, path);
            const found = { local: endpointIn(listener, "listen"), ...security(listener) };
            listener.finish();
            return found;
          },
          0,
          16,
        ),
      ) ?? [],
    control:
      root.optional("control", (key) => {
        const control = definitionFields(root.value(key), root.path(key));
        const local = control.optional("listen", (name) => endpointIn(control, name));
        const device = control.optional("interface", (name) => control.text(name));
        const ttl = control.optional("ttl", (name) => control.integer(name, undefined, { least: 0, most: 255 }));
        control.finish();
        return {
          ...(local === undefined ? {} : { local }),
          ...(device === undefined ? {} : { interface: device }),
          ...(ttl === undefined ? {} : { ttl }),
        };
      }) ?? {},
    admin: root.optional("admin", (key) => {
      const admin = definitionFields(root.value(key), root.path(key));
      const found = { local: endpointIn(admin, "listen"), token: secret(admin, "token", folder) };
      admin.finish();
      return found;
    }),
    groups: root.list(
      "groups",
      (item, path) => {
        if (typeof item !== "object" || item === null || !("credential" in item)) return readGroupDefinition(item, path);
        const { credential, ...definition } = item;
        const group = readGroupDefinition(definition, path);
        if (typeof credential !== "string") throw new WatchwordError("gcks.definition", `${path}.credential is a file`);
        credentials.set(group.name, resolve(folder, credential));
        return group;
      },
      1,
      1000,
    ),
    credentials,
  };
  root.finish();
  if (keys === undefined && certificates === undefined)
    root.fail("keys", "or certificates is missing: nobody could prove who it is");
  for (const [index, { rekey, access, carrierIdentity }] of config.groups.entries()) {
    if (
      carrierIdentity === "same" &&
      [...config.sip, ...config.rtsp].every(({ tls, users }) => (tls?.clientCa ?? users) === undefined)
    )
      root.fail(`groups[${index}].carrierIdentity`, "is same, and no listener has users or clientCa: nobody could join");
    if (rekey?.serverAddress !== undefined && config.control.local === undefined)
      root.fail(`groups[${index}].rekey.server`, "needs control.listen: reports come in there");
    for (const [rule, { issuer }] of access.entries())
      if (issuer !== undefined && certificates?.issuers.has(issuer) !== true)
        root.fail(`groups[${index}].members[${rule}].issuer`, "is none of config.certificates.issuers");
  }
  if (config.sip.length + config.rtsp.length === 0) root.fail("sip", "or rtsp is missing: nobody could join");
  return config;
}

/** A configuration with everything that it names, ready for `startGcksService`. */
export interface OpenedConfig {
  readonly options: GcksServiceOptions;
  /** Whether anything survives the process. */
  readonly durable: boolean;
  close(): Promise<void>;
}

/**
 * @param report what is said of key messages that were not accepted, for the log
 * @throws (rejects) WatchwordError, InvalidArgumentError naming the file
 */
export async function openGcksConfig(path: string, report: (line: string) => void): Promise<OpenedConfig> {
  const config = parseGcksConfig(readTextFile(path), dirname(resolve(path)));
  const psks = config.keys === undefined ? [] : parseLines(readSecretFile(config.keys), config.keys, parsePsk);
  const keys = createSipDirectory(psks.map(({ id, key }) => [id, key] as const));
  const certified = config.certificates === undefined ? undefined : await openCertificates(config, config.certificates, report);
  const signer = config.signingKey === undefined ? undefined : readPrivateKeyFile(config.signingKey);
  const credentials = new Map([...config.credentials].map(([group, file]) => [group, readCredentialFile(file)]));
  const admin: AdminOptions | undefined =
    config.admin === undefined ? undefined : { local: config.admin.local, token: readSecret(config.admin.token) };
  const stores: Store[] = [];
  const open = async (file: string, key: SecretSource): Promise<Store> => {
    const store = await openSqliteStore({ path: file });
    stores.push(store);
    return openSealedStore(store, readSealingKey(key));
  };
  const close = async (): Promise<void> => {
    for (const store of stores) await store.close();
  };
  try {
    const { store, outside } = config;
    if (outside !== undefined && store === undefined)
      throw new WatchwordError("gcks.definition", "config.expulsions needs a store");
    const options: GcksServiceOptions = {
      identity: config.identity,
      groups: config.groups,
      store:
        store === undefined ? createMemoryStore({ clock: systemClock, timers: systemTimers }) : await open(store.file, store.key),
      ...(outside === undefined || store === undefined ? {} : { outside: await open(outside, store.key) }),
      findCredential: (identity) => {
        const psk = identity === undefined ? undefined : keys.find(utf8Text(identity.data) ?? "");
        return psk === undefined ? undefined : { psk };
      },
      policy: certified?.keyPair.policy ?? { modes: config.modes.map((mode) => MODES[mode]) },
      ...(certified === undefined ? {} : { keyPairs: [certified.keyPair.keyPair], issuers: certified.issuers }),
      ...(signer === undefined ? {} : { signer }),
      ...(credentials.size === 0 ? {} : { credentials }),
      sip: config.sip.map(withSecrets),
      rtsp: config.rtsp.map(withSecrets),
      control: config.control,
      ...(admin === undefined ? {} : { admin }),
    };
    return { options, durable: store !== undefined, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** @throws InvalidArgumentError, UsageError */
async function openCertificates(
  { identity, modes }: GcksConfig,
  files: CertificateFiles,
  report: (line: string) => void,
): Promise<{ readonly keyPair: KeyPairIdentity; readonly issuers: ReadonlyMap<string, readonly Uint8Array[]> }> {
  const issuers = new Map([...files.issuers].map(([name, path]) => [name, readCertificateFile(path)]));
  const keyPair = await openKeyPair(
    {
      key: readPrivateKeyFile(files.key),
      chain: readCertificateFile(files.certificate),
      roots: [...issuers.values()].flat(),
      revocations: files.revocations.flatMap(readRevocationListFile),
      expected: [],
      modes,
    },
    report,
  );
  // Members take nothing else (RFC 4738 §3.2: the Responder is who the certificate names).
  if (!keyPair.names.includes(identity))
    throw new UsageError(`${files.certificate} does not name ${identity}: issue it with --uri ${identity}`);
  const fingerprint = (der: Uint8Array): Uint8Array => defaultCrypto.hash("sha256", der);
  return { keyPair, issuers: new Map([...issuers].map(([name, certificates]) => [name, certificates.map(fingerprint)])) };
}

/** An owner's credential as `watchword gcks credential` writes it: base64. @throws InvalidArgumentError */
function readCredentialFile(path: string): CredentialData {
  try {
    return decodeCredential(parseBase64(readTextFile(path).trim(), path));
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw error;
    throw new InvalidArgumentError(`${path} holds no credential`);
  }
}

/** A listener with what its files hold. @throws InvalidArgumentError */
function withSecrets<T extends { readonly tls?: TlsFiles; readonly users?: string }>({ tls, users, ...listener }: T) {
  const passwords =
    users === undefined
      ? undefined
      : new Map(parseLines(readSecretFile(users), users, parseUser).map(({ name, password }) => [name, password]));
  return {
    ...listener,
    ...(tls === undefined
      ? {}
      : {
          tls: {
            cert: readTextFile(tls.certificate),
            key: readSecretFile(tls.key),
            ...(tls.clientCa === undefined ? {} : { clientCa: readTextFile(tls.clientCa) }),
            ...(tls.clientCrls === undefined ? {} : { clientCrls: tls.clientCrls.map(readTextFile) }),
          },
        }),
    ...(passwords === undefined ? {} : { password: (user: string) => passwords.get(user) }),
  };
}

/** A secret in text. @throws InvalidArgumentError */
function readSecret(source: SecretSource): string {
  const text = "file" in source ? readSecretFile(source.file).trim() : process.env[source.environment];
  if (text === undefined || text === "") {
    throw new InvalidArgumentError(`there is nothing in ${"file" in source ? source.file : `the variable ${source.environment}`}`);
  }
  return text;
}

/** The modes that credentials allow, or those of them that are listed. */
function modesIn(root: Fields, keys: boolean, certificates: boolean): readonly ModeOption[] {
  const possible = MODE_NAMES.filter((mode) => (isSharedKeyMode(mode) ? keys : certificates));
  const read = (item: unknown, path: string): ModeOption => {
    const mode = MODE_NAMES.find((name) => name === item);
    if (mode === undefined) throw new WatchwordError("gcks.definition", `${path} is one of ${MODE_NAMES.join(", ")}`);
    if (!possible.includes(mode))
      throw new WatchwordError("gcks.definition", `${path}: mode ${mode} needs ${isSharedKeyMode(mode) ? "keys" : "certificates"}`);
    return mode;
  };
  return root.optional("modes", (key) => root.list(key, read, 1, MODE_NAMES.length)) ?? possible;
}

function notFile(path: string): never {
  throw new WatchwordError("gcks.definition", `${path} is the name of a file`);
}

function secret(fields: Fields, key: string, folder: string): SecretSource {
  const source = definitionFields(fields.value(key), fields.path(key));
  const file = source.optional("file", (name) => resolve(folder, source.text(name)));
  const environment = source.optional("environment", (name) => source.text(name));
  source.finish();
  if ((file === undefined) === (environment === undefined))
    return fields.fail(key, "names a file or a variable of the environment");
  return file === undefined ? { environment: environment as string } : { file };
}

function endpointIn(fields: Fields, key: string): Endpoint {
  try {
    return parseEndpoint(fields.text(key));
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    return fields.fail(key, error.message);
  }
}

function identityIn(fields: Fields, key: string): string {
  const text = fields.text(key);
  try {
    return partyOf(text);
  } catch {
    return fields.fail(key, "is a SIP URI, for example sip:gcks@example.org");
  }
}
