import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { utf8, type WatchwordError } from "../../src/bytes/index.js";
import { createToneSource, systemClock, systemTimers } from "../../src/node/index.js";
import { type CallEnd, nodeSipSockets, type SipCall, type SipUserAgent, startSipUserAgent } from "../../src/node/sip/index.js";
import { createPskSipKeying, type SipBody, type SipDialog, type SipKeying } from "../../src/sip/index.js";
import { lossySockets } from "../../test/node/sip/support.js";
import type { Finishing } from "../process.js";
import { until } from "../until.js";
import { makeFolder, SIPP } from "./scenario.js";

const PSK = utf8("what sipp and watchword both know");
const WRONG_PSK = utf8("what nobody else in here knows at all");

/** A user agent of ours that sipp talks to, and what came of its calls. */
export interface Subject {
  readonly agent: SipUserAgent;
  readonly uri: string;
  readonly calls: SipCall[];
  readonly ends: CallEnd[];
  readonly refusals: WatchwordError[];
  /** Datagrams that it sent. */
  readonly sent: string[];
  /** The description in the last message that it sent that matches. */
  description(pattern: RegExp): Promise<string>;
}

/** Starts a user agent that takes every call, with a tone. */
export async function startSubject(test: Finishing): Promise<Subject> {
  const sent: string[] = [];
  const calls: SipCall[] = [];
  const ends: CallEnd[] = [];
  const refusals: WatchwordError[] = [];
  const agent = await startSipUserAgent({
    address: "sip:watchword@127.0.0.1:0",
    transport: { transport: "udp", sockets: lossySockets(nodeSipSockets(), () => false, sent) },
    credentials: { user: "watchword", password: "secret" },
    keying: (uri) => keyingOf(uri, PSK),
    onCall: (incoming) => {
      incoming.accept({ source: createToneSource() }).then(
        (call) => {
          calls.push(call);
          void call.ended.then((end) => ends.push(end));
        },
        (error: WatchwordError) => void refusals.push(error),
      );
    },
  });
  test.onTestFinished(() => agent.close());
  const description = async (pattern: RegExp): Promise<string> => {
    const find = (): string | undefined => sent.findLast((message) => pattern.test(message));
    await until(`a message like ${pattern}`, () => find() !== undefined);
    return (find() ?? "").split("\r\n\r\n")[1] ?? "";
  };
  return { agent, uri: agent.uri, calls, ends, refusals, sent, description };
}

/** One key for everybody. */
function keyingOf(uri: string, psk: Uint8Array): SipKeying {
  return createPskSipKeying({ uri, keys: { find: () => psk }, clock: systemClock, timers: systemTimers });
}

/** The keys of the party that sipp plays: what it cannot compute itself. */
export interface Oracle {
  dialog(): SipDialog;
  /** A plain description of sipp's. */
  readonly plain: string;
  /** An offer of sipp's to the subject. */
  offer(dialog: SipDialog): Promise<string>;
  /** Writes a body for sipp; the name for scenarios. */
  write(name: string, content: string | Uint8Array): string;
  readonly folder: string;
}

let dialogs = 0;

export function createOracle(
  test: Finishing,
  subject: Subject,
  how: { readonly wrongKey?: boolean; readonly uri?: string } = {},
): Oracle {
  const plain =
    "v=0\r\no=sipp 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n";
  const folder = makeFolder(test);
  // Every dialog is another device of sipp's: each may answer the same offer.
  const newKeying = (): SipKeying => {
    const keying = keyingOf(how.uri ?? SIPP, how.wrongKey === true ? WRONG_PSK : PSK);
    test.onTestFinished(() => keying.close());
    return keying;
  };
  return {
    plain,
    folder,
    dialog: () => newKeying().dialog({ callId: `sipp-${dialogs++}`, callerTag: "t", remote: subject.uri }),
    offer: (dialog) => dialog.createOffer(plain),
    write(name, content) {
      const file = join(folder, name);
      writeFileSync(file, content);
      return file;
    },
  };
}

/** The octets of a proof, which is there. */
export function octetsOf(body: SipBody | undefined): Uint8Array {
  if (body?.octets === undefined) throw new Error("no proof");
  return body.octets;
}
