import { utf8, utf8Text } from "../../src/bytes/index.js";
import { createMediaKeying } from "../../src/gsa/index.js";
import type { Datagrams, DatagramsFactory, Stream } from "../../src/io/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { peerProfile } from "../../src/peers/index.js";
import {
  createAuthenticator,
  createMikeyServerKeying,
  createPskDirectory,
  createPublishedSource,
  createRtspParser,
  createRtspServer,
  identityOf,
} from "../../src/rtsp/index.js";
import { H264, manualSource, PCMU } from "./support.js";

const PSK = new Uint8Array(16).fill(0x77);
const POLICY = { suite: "AES_CM_128_HMAC_SHA1_80" } as const;
/** Names that the server gives to its first sessions: its random octets count. */
const SESSION = "01".repeat(16);
const clock = { now: () => Date.UTC(2026, 10, 22) };
const timers = { after: () => ({ cancel: () => {} }), every: () => ({ cancel: () => {} }) };

/** A conversation that is served to its end, for a fuzzer to start from. */
export const serverSeeds: readonly string[] = [
  [
    "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n",
    "DESCRIBE rtsp://h/plain RTSP/1.0\r\nCSeq: 2\r\nAccept: application/sdp\r\n\r\n",
    "SETUP rtsp://h/plain/track1 RTSP/1.0\r\nCSeq: 3\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n",
    `SETUP rtsp://h/plain/track2 RTSP/1.0\r\nCSeq: 4\r\nSession: ${SESSION}\r\nTransport: RTP/AVP;unicast;client_port=5000-5001\r\n\r\n`,
    `PLAY rtsp://h/plain/ RTSP/1.0\r\nCSeq: 5\r\nSession: ${SESSION}\r\nRange: npt=0-\r\n\r\n`,
    "$\x01\0\x08\x81\xc9\0\x01\0\0\0\x05",
    `PAUSE rtsp://h/plain/ RTSP/1.0\r\nCSeq: 6\r\nSession: ${SESSION}\r\n\r\n`,
    `GET_PARAMETER rtsp://h/plain/ RTSP/1.0\r\nCSeq: 7\r\nSession: ${SESSION}\r\n\r\n`,
    `TEARDOWN rtsp://h/plain/ RTSP/1.0\r\nCSeq: 8\r\nSession: ${SESSION}\r\n\r\n`,
  ].join(""),
  [
    "DESCRIBE rtsp://h/keyed RTSP/1.0\r\nCSeq: 1\r\nFrom: viewer\r\n\r\n",
    "SETUP rtsp://h/keyed/track1 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/SAVP/TCP;unicast;interleaved=0-1\r\n",
    'KeyMgmt: prot=mikey;uri="rtsp://h/keyed/track1";data="AQAFAP1td9ABAAAAAAAAAAAAAAAAAAsA6FpxIwAAAAA="\r\n\r\n',
    "SET_PARAMETER rtsp://h/keyed RTSP/1.0\r\nCSeq: 3\r\nContent-Type: text/parameters\r\nContent-Length: 13\r\n\r\nmikey: AQAF\r\n",
    'DESCRIBE rtsp://h/closed RTSP/1.0\r\nCSeq: 4\r\nAuthorization: Digest username="u", realm="r", nonce="n", uri="rtsp://h/closed", response="0"\r\n\r\n',
  ].join(""),
  [
    "ANNOUNCE rtsp://h/studio RTSP/1.0\r\nCSeq: 1\r\nContent-Type: application/sdp\r\nContent-Length: 108\r\n\r\n",
    "v=0\r\no=- 1 1 IN IP4 h\r\ns=x\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:track1\r\na=sendonly\r\n",
    "SETUP rtsp://h/studio/track1 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=RECORD\r\n\r\n",
    `RECORD rtsp://h/studio RTSP/1.0\r\nCSeq: 3\r\nSession: ${SESSION}\r\n\r\n`,
    "$\0\0\x0e\x80\0\0\x01\0\0\0\0\0\0\0\x05ab",
  ].join(""),
  [
    "OPTIONS * RTSP/2.0\r\nCSeq: 1\r\nRequire: play.basic\r\nSupported: play.basic\r\n\r\n",
    'SETUP rtsp://h/plain/track1 RTSP/2.0\r\nCSeq: 2\r\nPipelined-Requests: 7\r\nTransport: RTP/AVP;unicast;dest_addr=":8000"/":8001"\r\n\r\n',
    "PLAY rtsp://h/plain RTSP/2.0\r\nCSeq: 3\r\nPipelined-Requests: 7\r\nRange: npt=now-\r\n\r\n",
    'SETUP rtsp://h/keyed/track1 RTSP/2.0\r\nCSeq: 4\r\nTransport: RTP/SAVP;unicast;dest_addr="[::1]:1"/"[::1]:2";MIKEY=AQAFAP1td9A=\r\n\r\n',
    `TEARDOWN rtsp://h/plain RTSP/2.0\r\nCSeq: 5\r\nSession: ${SESSION}\r\n\r\n`,
  ].join(""),
];

interface Pipe {
  readonly stream: Stream;
  readonly written: Uint8Array[];
  readonly closed: () => boolean;
  leave(): void;
}

function createPipe(): Pipe {
  const written: Uint8Array[] = [];
  let closed = false;
  const leave = (): void => {
    if (closed) return;
    closed = true;
    stream.onClose?.();
  };
  const stream: Stream = {
    channel: { local: { host: "h", port: 554 }, remote: { host: "c", port: 4000 }, secure: false },
    onData: undefined,
    onClose: undefined,
    onDrain: undefined,
    buffered: 0,
    write: (octets) => {
      if (!closed) written.push(octets.slice());
    },
    end: leave,
    destroy: leave,
  };
  return { stream, written, closed: () => closed, leave };
}

/** Datagram sockets that say nothing; how many are open. */
function createMuteSockets(): DatagramsFactory & { open: number } {
  let port = 6000;
  const bind = (): Datagrams => {
    factory.open++;
    return { local: { host: "h", port: port++ }, onDatagram: undefined, send: () => {}, close: () => factory.open-- };
  };
  const factory = {
    open: 0,
    bind: () => Promise.resolve(bind()),
    bindPair: () => Promise.resolve([bind(), bind()] as const),
    bindMulticast: () => Promise.resolve(bind()),
  };
  return factory;
}

const turn = (): Promise<void> => new Promise((done) => setImmediate(done));

/**
 * Says `input`, cut in two, to a server with a plain, a keyed, a closed and a published path.
 * @returns statuses of the answers, and what is wrong with the server then; undefined where nothing is
 */
export async function talkToServer(
  input: Uint8Array,
): Promise<{ readonly statuses: readonly number[]; readonly fault: string | undefined }> {
  let count = 0;
  const faults: string[] = [];
  const source = manualSource([PCMU, H264]);
  const keyedSource = manualSource([PCMU]);
  const into = createPublishedSource();
  const datagrams = createMuteSockets();
  const keying = createMikeyServerKeying({
    keying: createMediaKeying({
      clock,
      timers,
      crypto: nodeCrypto,
      dialect: peerProfile("strict"),
      requirePsk: true,
      identity: identityOf("server"),
      findCredential: () => ({ psk: PSK }),
    }),
    policy: POLICY,
    directory: createPskDirectory([["viewer", PSK]]),
  });
  const authenticator = createAuthenticator({ realm: "r", password: () => "p", crypto: nodeCrypto, clock });
  const server = createRtspServer({
    presentations: [
      { path: "/plain", source, profile: "RTP/AVP" },
      { path: "/keyed", source: keyedSource, profile: "RTP/SAVP", keying },
      { path: "/closed", source: manualSource([PCMU]), profile: "RTP/AVP", authenticator },
      { path: "/studio", source: into, profile: "RTP/AVP", publish: { into } },
    ],
    clock,
    timers,
    random: { bytes: (length) => new Uint8Array(length).fill(++count) },
    datagrams,
    logger: {
      debug: () => {},
      info: () => {},
      warn: () => {},
      error: (message, fields) => faults.push(`${message} ${JSON.stringify(fields)}`),
    },
  });
  const attacker = createPipe();
  server.accept(attacker.stream);
  const half = input.length >> 1;
  for (const part of [input.subarray(0, half), input.subarray(half)]) {
    attacker.stream.onData?.(part.slice());
    for (let turns = 0; turns < 3; turns++) await turn();
    source.rtp(0, utf8("sound"));
    source.rtp(1, utf8("picture"));
    keyedSource.rtp(0, utf8("secret"));
  }
  const statuses: number[] = [];
  const answers = createRtspParser();
  for (const octets of attacker.written)
    answers.push(octets, (item) => {
      if (item.kind === "response") statuses.push(item.status);
      if (item.kind === "frame" && utf8Text(item.data)?.includes("secret") === true) faults.push("plain media of a keyed path");
    });
  if (!answers.idle) faults.push("half an answer");

  const next = createPipe();
  server.accept(next.stream);
  next.stream.onData?.(utf8("DESCRIBE rtsp://h/plain RTSP/1.0\r\nCSeq: 9\r\n\r\n"));
  for (let turns = 0; turns < 3; turns++) await turn();
  if (!next.written.some((octets) => (utf8Text(octets) ?? "").startsWith("RTSP/1.0 200")))
    faults.push("the next client is not served");
  next.leave();
  attacker.leave();
  await turn();
  if (server.connections !== 0) faults.push("a connection stays");
  if (server.sessions.some(({ tracks }) => tracks.some(({ transport }) => transport === "tcp"))) faults.push("a session stays");
  server.close();
  for (let turns = 0; turns < 3; turns++) await turn();
  if (datagrams.open !== 0) faults.push(`${datagrams.open} sockets stay`);
  return { statuses, fault: faults[0] };
}
