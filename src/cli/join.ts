import { Command, InvalidArgumentError, Option } from "commander";
import { formatHex, utf8Text, WatchwordError } from "../bytes/index.js";
import type { PublicKey } from "../crypto/index.js";
import type { MemberRole, ProofVerdict } from "../gsa/index.js";
import type { Endpoint } from "../io/index.js";
import type { GroupMembership } from "../member/index.js";
import type { Credential, MikeyPolicy } from "../mikey/index.js";
import type { JoinedGroup } from "../node/group/index.js";
import { createToneSource } from "../node/index.js";
import {
  addCredentialOptions,
  type CredentialFlags,
  checkCredentials,
  loadKeyPair,
  pskMode,
  pskOf,
  pskPolicy,
} from "./credentials.js";
import { describeError, errorObject, ReportedError } from "./errors.js";
import { parseIdentity } from "./gcks.js";
import { formatHex32 } from "./hex32.js";
import { untilStopped } from "./lifetime.js";
import {
  collectPsk,
  parseEndpoint,
  parseSeconds,
  parseUser,
  readPskFile,
  readSecretFile,
  readTextFile,
  UsageError,
  type User,
} from "./options.js";
import { readPublicKeyFile } from "./pem.js";
import { describeProof, parseVersion } from "./play.js";
import { loadGroup } from "./sip-js.js";

interface JoinFlags extends CredentialFlags {
  readonly identity?: string;
  readonly gcks?: string;
  readonly role: (typeof ROLES)[number];
  readonly ownerKey?: PublicKey;
  readonly unsigned?: true;
  readonly in?: Endpoint;
  readonly out?: Endpoint;
  readonly also?: readonly Also[];
  readonly tone?: true;
  readonly interface?: string;
  readonly unicast?: true;
  readonly rtsp: "1.0" | "2.0" | "auto";
  readonly user?: User;
  readonly ca?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly insecure?: true;
  readonly duration?: number;
  readonly json?: true;
}

/** `--also`. */
interface Also {
  readonly name: string;
  readonly role?: JoinFlags["role"];
  readonly input?: Endpoint;
  readonly output?: Endpoint;
}

const ROLES = ["sender", "receiver", "both"] as const;

/** `watchword join`: a member of a group, and a bridge for applications that speak plain RTP. */
export function joinCommand(): Command {
  const command = new Command("join").description("join a group by SIP or RTSP and bridge plain RTP into it and out of it");
  return addCredentialOptions(command)
    .argument("<uri>", "sip:GROUP@HOST:PORT;transport=tcp, sips:…, rtsp://HOST:PORT/GROUP or rtsps://…")
    .option("--identity <sip:uri>", "who we are (default: as the only key is named, or as --cert names us)", parseIdentity)
    .option("--psk <who:hex>", "our key, under our identity; repeatable", collectPsk)
    .option("--psk-file <file>", "file of WHO:HEX lines", readPskFile)
    .option("--gcks <sip:uri>", "who the key server has to be (default: sip:gcks@HOST)", parseIdentity)
    .option(
      "--owner-key <file>",
      "public key of the group's owner, PEM: it has to have signed for this key server",
      readPublicKeyFile,
    )
    .option("--unsigned", "accept groups whose rekey messages are not signed: every member can forge them")
    .addOption(new Option("--role <role>", "what to do in the group").choices(ROLES).default("both"))
    .option(
      "--in <rtp://host:port>",
      "plain RTP of the first stream comes in here, RTCP on the next port, further streams behind",
      parseRtp,
    )
    .option("--out <rtp://host:port>", "plain RTP goes there", parseRtp)
    .option(
      "--also <group>",
      "join another group of the key server by the same registration: NAME, and as far as wanted ,role=ROLE ,in=rtp://HOST:PORT ,out=rtp://HOST:PORT; repeatable",
      collectAlso,
    )
    .option("--tone", "send the built-in tone")
    .option("--interface <name>", "network interface of the multicast groups")
    .option("--unicast", "get rekey messages by unicast UDP where the group has multicast too")
    .option("--rtsp <version>", "1.0, 2.0, or auto: 2.0 where the key server speaks it", parseVersion, "1.0")
    .option("--user <name:password>", "digest authentication", parseUser)
    .option(
      "--ca <file>",
      "PEM certificates of the issuers to trust: in TLS instead of the system's, and for the key server's messages",
      readTextFile,
    )
    .option("--tls-cert <file>", "PEM certificate chain that we show where TLS asks who we are", readTextFile)
    .option("--tls-key <file>", "its private key, PEM", readSecretFile)
    .option("--insecure", "accept any certificate")
    .option("--duration <seconds>", "leave after this time", parseSeconds)
    .option("--json", "print what happens as JSON, one object a line")
    .addHelpText(
      "after",
      `
Examples:
  watchword join rtsp://127.0.0.1:8554/blue --psk-file alice.txt --in rtp://127.0.0.1:5004
  ffmpeg -re -i film.mp4 -vn -c:a pcm_mulaw -ar 8000 -f rtp rtp://127.0.0.1:5004
  watchword join "sip:blue@127.0.0.1:5060;transport=tcp" --psk-file bob.txt --role receiver --out rtp://127.0.0.1:6004
  watchword join rtsp://127.0.0.1:8554/blue --key bob.key --cert bob.pem --ca ca.pem --mode rsa-r --role receiver
  watchword join rtsp://127.0.0.1:8554/blue --psk-file bob.txt --out rtp://127.0.0.1:6004 --also red,role=receiver,out=rtp://127.0.0.1:7004

--psk-file with --mode dhhmac agrees on keys that stay secret when the pre-shared key gets known, --key with --mode dh likewise.

Exit status: 0 left with a proof that the key server acknowledged, 1 failed, 2 wrong usage, 3 refused by the key server, with a proof: it
does not have us in the group (any more), and to try again is of no use.`,
    )
    .action(join);
}

async function join(uri: string, flags: JoinFlags): Promise<void> {
  checkCredentials(flags);
  const { identity, credential, policy } = await credentialOf(flags);
  const { tlsCert: cert, tlsKey: key } = flags;
  if ((cert === undefined) !== (key === undefined)) throw new UsageError("--tls-cert and --tls-key go together");
  if (flags.tone === true && flags.in !== undefined) throw new UsageError("--tone or --in");
  const { joinGroup } = await loadGroup();
  const waiting = untilStopped(flags.duration);
  const print = (event: string, facts: Readonly<Record<string, unknown>>, text: string): void => {
    process.stdout.write(flags.json === true ? `${JSON.stringify({ event, ...facts })}\n` : `${text}\n`);
  };
  let end: (why: "ended" | WatchwordError) => void = () => {};
  const over = new Promise<"ended" | WatchwordError>((resolve) => {
    end = resolve;
  });
  const lively = new Set<GroupMembership>();
  const several = flags.also !== undefined;
  const joined = await joinGroup({
    uri,
    identity,
    credential,
    ...(policy === undefined ? {} : { policy }),
    role: roleOf(flags.role),
    ...(flags.also === undefined
      ? {}
      : {
          also: flags.also.map(({ role = flags.role, ...group }) => ({
            ...group,
            role: roleOf(role),
            ...(flags.ownerKey === undefined ? {} : { ownerKey: flags.ownerKey }),
          })),
        }),
    rtspVersion: flags.rtsp,
    ...(flags.gcks === undefined ? {} : { gcks: flags.gcks }),
    ...(flags.ownerKey === undefined ? {} : { ownerKey: flags.ownerKey }),
    ...(flags.unsigned === true ? { minimum: { signed: false } } : {}),
    ...(flags.in === undefined ? {} : { input: flags.in }),
    ...(flags.out === undefined ? {} : { output: flags.out }),
    ...(flags.interface === undefined ? {} : { interface: flags.interface }),
    ...(flags.unicast === undefined ? {} : { unicast: flags.unicast }),
    ...(flags.user === undefined ? {} : { login: { user: flags.user.name, password: flags.user.password } }),
    ...(flags.ca === undefined ? {} : { ca: flags.ca }),
    ...(cert === undefined || key === undefined ? {} : { clientCertificate: { cert, key } }),
    ...(flags.insecure === undefined ? {} : { insecure: flags.insecure }),
    onState: (membership, reason) => {
      const { state } = membership;
      print("state", { state, reason, ...factsOf(membership) }, `${several ? `${nameOf(membership)}: ` : ""}${state}: ${reason}`);
      if (state !== "ended" && state !== "idle") lively.add(membership);
      else lively.delete(membership);
      // Where one of several groups has ended, the others go on.
      if (state === "ended" && lively.size === 0) end("ended");
    },
    onRekey: (membership) =>
      print(
        "rekey",
        factsOf(membership),
        `${several ? `${nameOf(membership)}: ` : ""}new keys: sequence ${membership.sequence}, MKI ${mkiOf(membership)}`,
      ),
    onFailure: (error) => print("failure", { error: errorObject(error) }, describeError(error)),
    onRefused: (error) => end(error),
  }).catch((error: unknown) => {
    waiting.cancel();
    throw error;
  });
  const tone = flags.tone === true ? createToneSource() : undefined;
  try {
    const facts = {
      ...factsOf(joined.membership),
      ...(several ? { also: joined.memberships.slice(1).map(factsOf) } : {}),
      inputs: joined.inputs,
    };
    print("joined", facts, describeJoined(joined));
    if (tone !== undefined) {
      tone.onRtp = (_track, packet) => void joined.send(0, packet);
      tone.onRtcp = (_track, packet) => void joined.sendRtcp(0, packet);
      await tone.start();
    }
    const why = await Promise.race([waiting.over, over]);
    tone?.stop();
    const statistics = joined.memberships.flatMap(({ streams }) => streams.map((stream) => stream.statistics));
    if (typeof why === "object") {
      print("refused", { error: errorObject(why), statistics }, "the key server does not have us in the group any more");
      throw new ReportedError(why);
    }
    if (why === "ended") {
      await joined.close();
      print("ended", { statistics }, "the group has ended");
      return;
    }
    const proof = await joined.leave().catch((error: unknown): ProofVerdict => {
      // Who was expelled has no dialog to leave by.
      print("failure", { error: errorObject(error) }, describeError(error));
      return "absent";
    });
    print("left", { proof, statistics }, `left: ${describeProof(proof)}`);
    if (proof !== "verified") throw new WatchwordError("cli.leave", "the key server did not acknowledge that we left");
  } finally {
    tone?.stop();
    waiting.cancel();
    await joined.close();
  }
}

/** Who we are, and by what we prove it. @throws (rejects) UsageError, CertificateError */
async function credentialOf(
  flags: JoinFlags,
): Promise<{ readonly identity: string; readonly credential: Credential; readonly policy?: MikeyPolicy }> {
  const keyPair = await loadKeyPair(flags, (line) => process.stderr.write(`${line}\n`));
  const psks = pskOf(flags);
  const identity = flags.identity ?? soleIdentity(keyPair?.names ?? psks.map(({ id }) => id));
  if (identity === undefined) throw new UsageError("say who you are: --identity sip:NAME@HOST");
  if (keyPair === undefined) {
    const psk = psks.find(({ id }) => identityOf(id) === identity)?.key;
    if (psk === undefined) throw new UsageError(`there is no key for ${identity}: --psk ${identity}:HEX, or --psk-file`);
    return { identity, credential: { psk, mode: pskMode(flags) }, ...pskPolicy(flags) };
  }
  const credential = keyPair.credentialFor(
    flags.gcks === undefined ? [] : [flags.gcks],
    flags.peerCert === undefined ? "DH" : "PK",
  );
  if (credential === undefined)
    throw new UsageError(
      "--mode pk encrypts to the key server: give its certificate by --peer-cert, and, where there are several, its name by --gcks",
    );
  return { identity, credential, policy: keyPair.policy };
}

/** The only one of some names that is a SIP URI. */
function soleIdentity(names: readonly string[]): string | undefined {
  const identities = new Set(names.flatMap((name) => identityOf(name) ?? []));
  return identities.size === 1 ? [...identities][0] : undefined;
}

function roleOf(role: JoinFlags["role"]): MemberRole {
  return { send: role !== "receiver", receive: role !== "sender" };
}

/** Facts of a membership for machines. Nothing here is a key. */
function factsOf({ role, sequence, control, server, streams }: GroupMembership) {
  return {
    role,
    sequence,
    control,
    server,
    streams: streams.map(({ destination, ssrc, mki }) => ({ destination, ssrc, mki })),
  };
}

function describeJoined({ memberships, inputs }: JoinedGroup): string {
  let at = 0;
  const lines = memberships.flatMap((membership) => [
    `joined${memberships.length > 1 ? ` ${nameOf(membership)}` : ""}: rekey messages ${membership.control ?? "in the dialog"}`,
    ...membership.streams.map(({ number, destination, ssrc }) => {
      const input = inputs[at++];
      const comes = input === undefined ? "" : `, plain RTP comes in at ${input.host}:${input.port}`;
      return `stream ${number}: ${destination ?? "as described"}, our SSRC ${ssrc ?? "none"}${comes}`;
    }),
  ]);
  return lines.join("\n");
}

function nameOf({ group }: GroupMembership): string {
  return utf8Text(group) ?? formatHex(group);
}

function mkiOf({ streams }: GroupMembership): string {
  const mki = streams[0]?.mki;
  return mki === undefined ? "none yet" : formatHex32(mki);
}

function identityOf(id: string): string | undefined {
  try {
    return parseIdentity(id);
  } catch {
    return undefined;
  }
}

/** Collects `--also`. @throws InvalidArgumentError */
function collectAlso(text: string, previous: readonly Also[] = []): readonly Also[] {
  const [name = "", ...parts] = text.split(",");
  if (name === "" || previous.some((other) => other.name === name))
    throw new InvalidArgumentError("expected the name of another group, each once");
  const found = parts.map((part): Partial<Also> => {
    const [, key, value = ""] = /^(role|in|out)=(.+)$/.exec(part) ?? [];
    if (key === "in") return { input: parseRtp(value) };
    if (key === "out") return { output: parseRtp(value) };
    const role = key === "role" ? ROLES.find((known) => known === value) : undefined;
    if (role === undefined)
      throw new InvalidArgumentError(`after the name: role=${ROLES.join("|")}, in=rtp://HOST:PORT, out=rtp://HOST:PORT`);
    return { role };
  });
  return [...previous, Object.assign({ name }, ...found) as Also];
}

/** `rtp://HOST:PORT` with an even port. @throws InvalidArgumentError */
function parseRtp(text: string): Endpoint {
  const match = /^rtp:\/\/([^/]+)\/?$/.exec(text);
  if (match === null) throw new InvalidArgumentError("expected rtp://HOST:PORT");
  const endpoint = parseEndpoint(match[1] as string);
  if (endpoint.port % 2 !== 0) throw new InvalidArgumentError("the port of RTP is even; RTCP has the next");
  return endpoint;
}
