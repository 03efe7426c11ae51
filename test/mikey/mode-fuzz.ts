import { formatHex, parseHex, WatchwordError } from "../../src/bytes/index.js";
import {
  createResponder,
  DataType,
  decodeMessage,
  decodeNtp,
  type MikeyError,
  type PendingExchange,
  type ReceiveContext,
  RFC_3830_ALGORITHMS,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { type Vector, vectorFiles } from "./mikey-vectors.js";
import { BOB, caseNamed, keyPair, modePair, modeRequest, verifier } from "./mode-fixture.js";

/** Published requests that a responder with every key of Bob's takes, one of each kind. */
const ACCEPTED = [
  "pk-pkcs1-cached",
  "pk-pss-sha256",
  "pk-aes-kw-null-mac",
  "dh-pss",
  "dh-pss-sha256-interval",
  "dhhmac-oakley-5",
  "rsa-r-unicast-rand-by-initiator",
  "rsa-r-unicast-rand-by-responder",
  "private-dh-x25519-ed25519",
  "private-dh-p256-ecdsa",
  "private-pk-ed25519",
];

const vectors = vectorFiles.flatMap((file) => file.vectors);
const named = (name: string): Vector => vectors.find((vector) => vector.name === name) as Vector;
const requestOf = (vector: Vector): string => vector.exchanges[0]?.iMessage.octets ?? "";

/** What parties did send: nothing else is ever taken. */
const genuineRequests = new Set(vectors.map(requestOf));
const sent = named("dhhmac-oakley-5");
const now = decodeNtp(parseHex(sent.exchanges[0]?.timestamp.value ?? ""), Date.UTC(2026, 0, 1));

/** Takes whatever any of the modes and algorithms allows. */
const responder = createResponder({
  crypto: nodeCrypto,
  clock: { now: () => now },
  identity: BOB,
  findCredential: () => ({ psk: parseHex(sent.psk ?? "") }),
  keyPairs: (["bob", "bob-ed25519", "bob-p256"] as const).map((name) => keyPair(nodeCrypto, name)),
  policy: {
    certificates: verifier(nodeCrypto),
    prfs: [0, 1],
    encrAlgs: [1, 2, 3],
    macAlgs: [1, 2],
    signatureSchemes: ["rsa-pss-sha256", "rsa-pkcs1-sha256", "rsa-pss-sha1", "rsa-pkcs1-sha1", "ecdsa-p256-sha256", "ed25519"],
    encryptionSchemes: ["rsa-oaep-sha1", "rsa-oaep-sha256", ...RFC_3830_ALGORITHMS.encryptionSchemes],
  },
});

/** An exchange that waits for its response, and the only one that is right. */
interface Waiting {
  readonly pending: PendingExchange;
  readonly response: Uint8Array;
}

const waiting = await Promise.all(
  ["PK, envelope key cached", "DH", "DH over X25519, signed with Ed25519", "DHHMAC", "RSA-R, envelope key cached"].map(
    async (title): Promise<Waiting> => {
      const row = caseNamed(title);
      const pair = modePair(row, nodeCrypto);
      const pending = await pair.initiator.begin(modeRequest(nodeCrypto, row));
      const received = await pair.responder.receive(pending.octets);
      if (received.kind === "repeated" || received.response === undefined) throw new Error("no response");
      return { pending, response: received.response };
    },
  ),
);

/** Requests of every mode, and responses in every mode. */
export const modeSeeds: readonly Uint8Array[] = [
  ...ACCEPTED.map((name) => parseHex(requestOf(named(name)))),
  ...waiting.map(({ response }) => response),
];

/** Offers octets to a party on either side of every mode. @returns whether somebody took them, and what went wrong */
export async function offerToModes(input: Uint8Array): Promise<{ readonly accepted: boolean; readonly fault?: string }> {
  const hex = formatHex(input);
  const context: ReceiveContext = { requirePsk: true };
  if (await takes(() => responder.receive(input, context), checkReply)) {
    if (!genuineRequests.has(hex)) return { accepted: true, fault: "a request that nobody made was taken" };
    return { accepted: true };
  }
  let accepted = false;
  for (const { pending, response } of waiting) {
    if (!(await takes(() => pending.fork(input)))) continue;
    if (hex !== formatHex(response)) return { accepted: true, fault: "a response that nobody made was taken" };
    accepted = true;
  }
  return { accepted };
}

async function takes(call: () => Promise<unknown>, check: (error: MikeyError) => void = () => undefined): Promise<boolean> {
  try {
    await call();
    return true;
  } catch (error) {
    if (!(error instanceof WatchwordError)) throw error;
    check(error as MikeyError);
    return false;
  }
}

/** What is refused is answered by an error message or not at all. */
function checkReply({ reply }: MikeyError): void {
  if (reply === undefined) return;
  const { header, payloads } = decodeMessage(reply);
  if (header.dataType !== DataType.ERROR || !payloads.some(({ kind }) => kind === "ERR"))
    throw new Error("refused by something else");
}
