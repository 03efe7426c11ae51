import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CodecError, concatBytes, equalBytes, formatHex, parseHex, utf8, utf8Text, WatchwordError } from "../src/bytes/index.js";
import { type CryptoProvider, nobleCrypto, parsePem } from "../src/crypto/index.js";
import { createCertificateVerifier, readCertificate } from "../src/crypto/x509/index.js";
import { decodeGroupPolicies, decodeRekey, decodeReport, openGsa } from "../src/gsa/index.js";
import {
  createInitiator,
  createReplayCache,
  createResponder,
  createTimestampSource,
  DataType,
  decodeCredential,
  decodeGkma,
  decodeHello,
  decodeIdentifiedKeys,
  decodeKeyData,
  decodeKeyIds,
  decodeMessage,
  decodeOmaBcast,
  decodePayloadChain,
  decodePossessionClaim,
  decodeSdpIds,
  decodeSync,
  decodeTicketData,
  encodeCredential,
  encodeGkma,
  encodeHello,
  encodeIdentifiedKeys,
  encodeKeyData,
  encodeMessage,
  encodePayloadChain,
  encodePossessionClaim,
  encodeSync,
  encodeTicketData,
  TOLERANCES,
  type ToleranceName,
} from "../src/mikey/index.js";
import { nodeCrypto } from "../src/node/crypto.js";
import {
  createRtspParser,
  parseAuthentication,
  parseRange,
  parseRtpInfo,
  parseRtspUri,
  parseSession,
  parseTransport,
  type RtspItem,
} from "../src/rtsp/index.js";
import {
  createSdpEditor,
  parseCrypto,
  parseDescription,
  parseKeyMgmtHeader,
  parseKeyMgmtParameter,
  readKeyMgmt,
} from "../src/sdp/index.js";
import { parseMikeyBody } from "../src/sip/index.js";
import { createSrtpReceiver, createSrtpSender, type SrtpPolicy } from "../src/srtp/index.js";
import { formatInspections, inspectionJson, inspectOctets, redact } from "../src/tools/index.js";
import {
  credentialCases,
  csMapCases,
  gkmaCases,
  helloCases,
  keyDataCases,
  payloadCases,
  possessionCases,
  syncCases,
} from "./mikey/codec-cases.js";
import { ALICE, BOB, NOW, PSK, request } from "./mikey/exchange-fixture.js";
import { modeSeeds, offerToModes } from "./mikey/mode-fuzz.js";
import { serverSeeds, talkToServer } from "./rtsp/server-fuzz.js";
import { offerSeeds, offerToCallee } from "./sip/dialog-fuzz.js";
import { masterKey, rtpPacket } from "./srtp/packets.js";
import { STRICT, STRICT_BASE64, STRICT_OCTETS } from "./tools/messages.js";
import asymmetric from "./vectors/asymmetric.json" with { type: "json" };
import vectors from "./vectors/group-messages.json" with { type: "json" };
import x509 from "./vectors/x509-openssl.json" with { type: "json" };

/** What must hold for any octets at all. */
export interface FuzzTarget {
  /** Also the folder of its corpus. */
  readonly name: string;
  /** Inputs that are accepted, to start from. */
  seeds(): readonly Uint8Array[];
  /** True where the input was accepted. Throws where something is wrong: the input is then a crash. */
  run(input: Uint8Array): boolean | Promise<boolean>;
}

const CORPUS = join(import.meta.dirname, "corpus");

/** Seeds and crashes kept for a target, by file name. */
export function corpusOf(target: string): ReadonlyMap<string, Uint8Array> {
  const folder = join(CORPUS, target);
  if (!existsSync(folder)) return new Map();
  return new Map(readdirSync(folder).map((name) => [name, new Uint8Array(readFileSync(join(folder, name)))]));
}

/** Where a crash of a target is kept. */
export function crashFile(target: string, hash: string): string {
  return join(CORPUS, target, `crash-${hash}`);
}

class Violation extends Error {
  override readonly name = "Violation";
}

/** Runs what may fail only with an error of the package. False where it failed. */
function typed(call: () => void): boolean {
  try {
    call();
    return true;
  } catch (error) {
    if (!(error instanceof WatchwordError)) throw error;
    if (!/^[a-z0-9]+\.[a-z0-9-]+$/.test(error.code)) throw new Violation(`odd code ${error.code}`);
    return false;
  }
}

/** As `typed`, for what takes time. */
async function typedStep(call: () => Promise<void>): Promise<boolean> {
  try {
    await call();
    return true;
  } catch (error) {
    return typed(() => {
      throw error;
    });
  }
}

function same(what: string, actual: Uint8Array, expected: Uint8Array): void {
  if (!equalBytes(actual, expected)) throw new Violation(`${what}: ${formatHex(actual)} is not ${formatHex(expected)}`);
}

/** Any text a text parser may meet: octets one to one where they are no UTF-8. */
function textOf(input: Uint8Array): string {
  return utf8Text(input) ?? Buffer.from(input).toString("latin1");
}

const mikey: FuzzTarget = {
  name: "mikey",
  seeds: () => [
    STRICT_OCTETS,
    ...payloadCases.map(({ value }) => encodeMessage({ ...STRICT, payloads: [value] })),
    ...csMapCases.map(({ value }) => encodeMessage({ ...STRICT, header: { ...STRICT.header, csMap: value } })),
    encodeMessage({
      ...STRICT,
      payloads: payloadCases.map(({ value }) => value).filter((payload) => payload.kind !== "SIGN" && !unsized(payload)),
    }),
  ],
  run(input) {
    let accepted = false;
    typed(() => {
      const message = decodeMessage(input, { trailing: "keep" });
      same("encoded again", encodeMessage(message), input);
      accepted = true;
      for (const payload of message.payloads) {
        if (payload.kind === "KEMAC")
          typed(() => same("key data", encodeKeyData(decodeKeyData(payload.encrData)), payload.encrData));
        if (payload.kind === "TP" || payload.kind === "TICKET") {
          typed(() => {
            const chain = encodePayloadChain(decodePayloadChain(payload.tpData));
            if (payload.tpData.length > 0) same("TP data", chain, payload.tpData);
          });
        }
        if (payload.kind === "EXT") typed(() => decodeSdpIds(payload.data));
      }
    });
    return accepted;
  },
};

/** A payload that takes the rest, which only a last one may. */
function unsized(payload: (typeof payloadCases)[number]["value"]): boolean {
  return (payload.kind === "KEMAC" && payload.macAlg > 2) || (payload.kind === "T" && payload.tsType > 3);
}

const contents: FuzzTarget = {
  name: "mikey-contents",
  seeds: () => [
    ...keyDataCases.map(({ octets }) => octets),
    concatBytes(Uint8Array.of(6), utf8("\u0000\u0000\u0000\u0001a")),
    utf8("mikey;keyp1"),
    encodePayloadChain(STRICT.payloads),
    encodeTicketData({ header: Uint8Array.of(1, 2), payloads: STRICT.payloads }),
  ],
  run(input) {
    const results = [
      typed(() => same("key data", encodeKeyData(decodeKeyData(input)), input)),
      typed(() => same("identified keys", encodeIdentifiedKeys(decodeIdentifiedKeys(input)), input)),
      typed(() => {
        const chain = encodePayloadChain(decodePayloadChain(input));
        if (input.length > 0) same("chain", chain, input);
      }),
      typed(() => same("ticket data", encodeTicketData(decodeTicketData(input)), input)),
      typed(() => void decodeKeyIds(input)),
      typed(() => void decodeOmaBcast(input)),
      typed(() => void decodeSdpIds(input)),
    ];
    return results.includes(true);
  },
};

const EXTENSIONS: readonly (readonly [cases: readonly { octets: Uint8Array }[], again: (input: Uint8Array) => Uint8Array])[] = [
  [helloCases, (input) => encodeHello(decodeHello(input))],
  [possessionCases, (input) => encodePossessionClaim(decodePossessionClaim(input))],
  [gkmaCases, (input) => encodeGkma(decodeGkma(input))],
  [syncCases, (input) => encodeSync(decodeSync(input))],
  [credentialCases, (input) => encodeCredential(decodeCredential(input))],
];

/** Messages of groups and what stands in their extensions. */
const group: FuzzTarget = {
  name: "group",
  seeds: () => [
    ...EXTENSIONS.flatMap(([cases]) => cases.map(({ octets }) => octets)),
    ...["gsa", "rekey", "heartbeat", "end", "report"].map((name) =>
      parseHex((vectors as unknown as Record<string, string>)[name] as string),
    ),
  ],
  async run(input) {
    const results = EXTENSIONS.map(([, again]) => typed(() => same("extension", again(input), input)));
    results.push(typed(() => void decodeRekey(input)));
    results.push(typed(() => void decodeReport(input)));
    results.push(
      typed(() => {
        const policies = decodeMessage(input).payloads.filter((payload) => payload.kind === "SP");
        if (policies.length > 0) void decodeGroupPolicies(policies);
      }),
    );
    const { gcks, member } = vectors;
    const expected = {
      gcks: { idType: 1, data: utf8(gcks) },
      member: { idType: 1, data: utf8(member) },
      groups: [parseHex(vectors.group)],
      now: 0,
    };
    try {
      await openGsa(nodeCrypto, parseHex(vectors.kDown), input, expected);
      results.push(true);
    } catch (error) {
      if (!(error instanceof WatchwordError)) throw error;
    }
    return results.includes(true);
  },
};

const SDP_SEED = [
  "v=0",
  "o=- 1 1 IN IP4 127.0.0.1",
  "s=-",
  "c=IN IP4 127.0.0.1",
  "t=0 0",
  `a=key-mgmt:mikey ${STRICT_BASE64}`,
  "m=audio 4000 RTP/SAVP 0 8",
  "a=rtpmap:0 PCMU/8000",
  "a=control:streamid=0",
  "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4 FEC_ORDER=FEC_SRTP",
  "m=video 0 RTP/SAVPF 96",
  "a=acap:1 key-mgmt:mikey AQAFAA==",
  "a=fmtp:96 packetization-mode=1;profile-level-id=42e01f",
  "",
].join("\r\n");

const sdp: FuzzTarget = {
  name: "sdp",
  seeds: () => [utf8(SDP_SEED), utf8(SDP_SEED.replaceAll("\r\n", "\n"))],
  run(input) {
    const text = textOf(input);
    const results = [
      typed(() => {
        if (createSdpEditor(text).format() !== text) throw new Violation("the editor changed the text");
      }),
      typed(() => void readKeyMgmt(text)),
      typed(() => void parseDescription(text)),
    ];
    return results.every(Boolean);
  },
};

const TEXTS: readonly ((text: string) => unknown)[] = [
  parseKeyMgmtHeader,
  parseKeyMgmtParameter,
  parseCrypto,
  parseTransport,
  parseAuthentication,
  parseRange,
  parseRtpInfo,
  parseRtspUri,
  parseSession,
];

const texts: FuzzTarget = {
  name: "texts",
  seeds: () =>
    [
      `prot=mikey;uri="rtsp://127.0.0.1/a";data="${STRICT_BASE64}"`,
      `prot=mikey; uri=""; data=AQAF, prot=x;data="AA=="`,
      `mikey: ${STRICT_BASE64}\r\n`,
      `KeyMgmt: prot=mikey;data="AQ=="\r\n`,
      "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4 KDR=1 UNENCRYPTED_SRTCP",
      'RTP/SAVP/UDP;unicast;client_port=5000-5001;server_port=6000-6001;ssrc=0A0B0C0D;mode="PLAY",RTP/AVP/TCP;interleaved=0-1',
      'Digest username="u", realm="r", nonce="n", uri="rtsp://a/", response="0123456789abcdef0123456789abcdef", algorithm=MD5',
      "npt=0.000-10.5",
      "clock=19961108T142300Z-19961108T143520Z",
      "url=rtsp://a/b;seq=45102;rtptime=12345678,url=rtsp://a/c;seq=1",
      "rtsp://user:pass@[::1]:8554/live/track1?a=b",
      "12345678;timeout=60",
    ].map(utf8),
  run(input) {
    const text = textOf(input);
    return TEXTS.map((parse) => typed(() => void parse(text))).includes(true);
  },
};

const RTSP_SEED = [
  "SETUP rtsp://127.0.0.1:8554/live/track1 RTSP/1.0",
  "CSeq: 3",
  "Transport: RTP/SAVP;unicast;client_port=5000-5001",
  `KeyMgmt: prot=mikey;uri="rtsp://127.0.0.1:8554/live/track1";data="${STRICT_BASE64}"`,
  "",
  "RTSP/1.0 200 OK",
  "CSeq: 3",
  "Content-Type: text/parameters",
  "Content-Length: 12",
  "",
  "mikey: AQAF\n",
].join("\r\n");

/** Everything that a parser delivers for an input cut at some places, and how it ended. */
function parseRtsp(input: Uint8Array, cuts: readonly number[]): string {
  const parser = createRtspParser({ maxHeader: 2048, maxHeaderLines: 32, maxBody: 4096 });
  const items: RtspItem[] = [];
  let end = "";
  const complete = typed(() => {
    let at = 0;
    for (const cut of [...cuts, input.length]) {
      parser.push(input.subarray(at, cut), (item) => items.push(item));
      at = cut;
    }
  });
  if (!complete) {
    try {
      parser.push(new Uint8Array(), () => {});
      throw new Violation("a failed parser took more");
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      end = error.code;
    }
  }
  return JSON.stringify([items, end], (_key, value: unknown) => (value instanceof Uint8Array ? formatHex(value) : value));
}

const rtsp: FuzzTarget = {
  name: "rtsp",
  seeds: () => [
    utf8(RTSP_SEED),
    concatBytes(
      Uint8Array.of(0x24, 0, 0, 4, 1, 2, 3, 4),
      utf8("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
      Uint8Array.of(0x24, 1, 0, 0),
    ),
    utf8("\r\nRTSP/1.0 404 Not Found\nCSeq: 1\n Folded: yes\n\n"),
  ],
  run(input) {
    const whole = parseRtsp(input, []);
    const half = Math.floor(input.length / 2);
    if (parseRtsp(input, [half]) !== whole) throw new Violation(`cut at ${half} it reads otherwise`);
    const every = Array.from({ length: Math.min(input.length, 600) }, (_, at) => at);
    if (parseRtsp(input, every) !== whole) throw new Violation("cut at every octet it reads otherwise");
    return whole.endsWith(',""]');
  },
};

/** Policies under which every packet is authenticated. */
const SRTP_POLICIES: readonly SrtpPolicy[] = [
  { suite: "AES_CM_128_HMAC_SHA1_80" },
  { suite: "AES_CM_128_HMAC_SHA1_32" },
  { suite: "AEAD_AES_128_GCM" },
  { suite: "AES_CM_128_HMAC_SHA1_80", encryptedExtensionIds: [3], rolloverCarrying: { mode: 2, rate: 2 } },
  { suite: "AEAD_AES_128_GCM", encryptedExtensionIds: [3], rolloverCarrying: { mode: 3, rate: 2 } },
];
const MKI = Uint8Array.of(0, 0, 0, 1);

interface SrtpSamples {
  readonly rtp: readonly Uint8Array[];
  readonly rtcp: readonly Uint8Array[];
}

const srtpSamples: readonly SrtpSamples[] = SRTP_POLICIES.map((policy, index) => {
  const sender = createSrtpSender({ policy, keys: [masterKey(policy.suite, 1 + index, MKI)], crypto: nodeCrypto });
  const out = new Uint8Array(2048);
  const rtp = [{ sequence: 1 }, { sequence: 2, csrcs: 2 }, { sequence: 3, extension: 3 }].map((shape) =>
    out.slice(0, sender.protect(rtpPacket(shape), out)),
  );
  const report = Uint8Array.of(0x80, 201, 0, 1, 0xca, 0xfe, 0xba, 0xbe);
  return { rtp, rtcp: [out.slice(0, sender.protectRtcp(report, out))] };
});

const srtp: FuzzTarget = {
  name: "srtp",
  seeds: () => srtpSamples.flatMap(({ rtp, rtcp }) => [...rtp, ...rtcp]),
  run(input) {
    const out = new Uint8Array(input.length + 64);
    let accepted = false;
    SRTP_POLICIES.forEach((policy, index) => {
      const { suite } = policy;
      const receiver = createSrtpReceiver({ policy, keys: [masterKey(suite, 1 + index, MKI)], crypto: nodeCrypto });
      const samples = srtpSamples[index] as SrtpSamples;
      for (const [open, genuine] of [
        [receiver.unprotect.bind(receiver), samples.rtp],
        [receiver.unprotectRtcp.bind(receiver), samples.rtcp],
      ] as const) {
        const result = open(input, out);
        if (result >= 0) {
          accepted = true;
          if (!genuine.some((packet) => equalBytes(packet, input))) throw new Violation(`${suite} took a packet that nobody sent`);
          if (open(input, out) >= 0) throw new Violation(`${suite} took a packet twice`);
        } else if (!Number.isInteger(result)) {
          throw new Violation(`${suite} returned ${result}`);
        }
      }
      if (!accepted && receiver.ssrcs.length > 0) throw new Violation("a packet that was refused left state behind");
    });
    return accepted;
  },
};

const clock = { now: (): number => NOW };

/** The node backend with numbers that are the same in every run. */
const countingCrypto: CryptoProvider = Object.assign(Object.create(nodeCrypto) as CryptoProvider, {
  randomBytes: (length: number) => Uint8Array.from({ length }, (_, i) => (i * 37 + length) & 0xff),
});

/** Under a pre-shared key: nothing but the genuine message is accepted. */
const { octets: genuineExchange } = await createInitiator({
  crypto: countingCrypto,
  clock,
  timestamps: createTimestampSource(clock),
}).begin(request());

const exchange: FuzzTarget = {
  name: "exchange",
  seeds: () => [genuineExchange, STRICT_OCTETS],
  async run(input) {
    let accepted = false;
    await typedStep(async () => {
      const responder = createResponder({
        crypto: nodeCrypto,
        clock,
        identity: BOB,
        findCredential: (id) => (id?.data.join() === ALICE.data.join() ? { psk: PSK } : undefined),
      });
      const result = await responder.receive(input, { requirePsk: true });
      accepted = true;
      if (!equalBytes(input, genuineExchange)) throw new Violation(`a forged message was taken as ${result.kind}`);
    });
    await typedStep(async () => {
      const lenient = createResponder({
        crypto: nodeCrypto,
        clock: { now: () => Date.UTC(2026, 10, 22) },
        replayCache: createReplayCache(),
        allowNullKeying: true,
        tolerances: Object.keys(TOLERANCES) as ToleranceName[],
        findCredential: () => undefined,
      });
      const result = await lenient.receive(input, { secure: true });
      accepted = true;
      if (result.kind !== "repeated" && result.response !== undefined) {
        const answer = decodeMessage(result.response);
        if (answer.header.dataType !== DataType.PSK_RESP) throw new Violation("answered with something else");
      }
    });
    return accepted;
  },
};

/** Both sides of the modes with public keys: nothing but the genuine messages is accepted. */
const modes: FuzzTarget = {
  name: "modes",
  seeds: () => modeSeeds,
  async run(input) {
    const { accepted, fault } = await offerToModes(input);
    if (fault !== undefined) throw new Violation(fault);
    return accepted;
  },
};

const inspector: FuzzTarget = {
  name: "inspector",
  seeds: () => [
    STRICT_OCTETS,
    utf8(STRICT_BASE64),
    utf8(SDP_SEED),
    utf8(RTSP_SEED),
    utf8(`INVITE sip:a SIP/2.0\r\nContent-Type: application/mikey\r\n\r\n${STRICT_BASE64}\r\n`),
  ],
  run(input) {
    let accepted = false;
    typed(() => {
      const inspections = inspectOctets(input);
      JSON.stringify(inspections.map(inspectionJson));
      formatInspections(inspections);
      for (const { valid, message } of inspections) {
        if (valid && message === undefined) throw new Violation("valid without a message");
        accepted ||= valid;
      }
    });
    redact(textOf(input));
    return accepted;
  },
};

const server: FuzzTarget = {
  name: "server",
  seeds: () => serverSeeds.map((text) => Uint8Array.from(text, (unit) => unit.charCodeAt(0))),
  async run(input) {
    const { statuses, fault } = await talkToServer(input);
    if (fault !== undefined) throw new Violation(fault);
    return statuses.includes(200);
  },
};

const sip: FuzzTarget = {
  name: "sip",
  seeds: () => offerSeeds.map(utf8),
  async run(input) {
    typed(() => void parseMikeyBody({ contentType: "application/mikey", content: input }));
    return offerToCallee(textOf(input));
  },
};

const keys: FuzzTarget = {
  name: "keys",
  seeds: () =>
    (["rsa2048", "rsa2049", "ec-p256", "ed25519"] as const).flatMap((name) => {
      const { spki, pkcs8 } = asymmetric.keys[name];
      return [parseHex(spki), parseHex(pkcs8)];
    }),
  run(input) {
    let accepted = false;
    for (const crypto of [nodeCrypto, nobleCrypto]) {
      accepted =
        typed(() => {
          const { spki, kind, bits } = crypto.importPublicKey(input);
          same("public key", spki, input);
          if (bits < 256 || bits > 8192) throw new Violation(`${kind} of ${bits} bits`);
        }) || accepted;
      accepted = typed(() => void crypto.importPrivateKey(input)) || accepted;
    }
    typed(() => void parsePem(textOf(input)));
    return accepted;
  },
};

const certificates: FuzzTarget = {
  name: "certificates",
  seeds: () => x509.chains.filter(({ accepted }) => accepted).map(({ leaf }) => parseHex(leaf)),
  async run(input) {
    typed(() => void readCertificate(input, nodeCrypto));
    typed(() => void createCertificateVerifier({ roots: [], crls: [input], crypto: nodeCrypto }));
    const accepted = await typedStep(async () => {
      const { chain } = await certificateVerifier.verify([input], {
        now: x509.now,
        usage: "signature",
        identity: "sip:alice@example.org",
      });
      same("verified", chain[0] as Uint8Array, input);
    });
    if (accepted && !x509.chains.some(({ leaf }) => leaf === formatHex(input)))
      throw new Violation("a certificate that nobody issued");
    return accepted;
  },
};

const certificateVerifier = createCertificateVerifier({ roots: x509.chains.map(({ root }) => parseHex(root)), crypto: nodeCrypto });

/** Everything that reads what strangers send. */
export const fuzzTargets: readonly FuzzTarget[] = [
  mikey,
  contents,
  group,
  sdp,
  texts,
  rtsp,
  server,
  srtp,
  exchange,
  modes,
  sip,
  inspector,
  keys,
  certificates,
];
