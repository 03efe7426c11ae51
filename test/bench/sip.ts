import { utf8 } from "../../src/bytes/index.js";
import { type CryptoProvider, nobleCrypto } from "../../src/crypto/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { createPskSipKeying, type SipDialog, type SipKeying } from "../../src/sip/index.js";

/** What keys cost a call. */
export interface SipBenchResult {
  readonly backend: string;
  /** Whole calls, both ends in one thread: offer, answer, BYE with proof, acknowledgement; no SIP stack, no network. From medians of the steps. */
  readonly callsPerSecond: number;
  /** Milliseconds that a description takes longer for its keys, at the end that does it. */
  readonly milliseconds: {
    readonly offer: number;
    readonly acceptOffer: number;
    readonly answer: number;
    readonly acceptAnswer: number;
  };
  /** Octets that a message is longer for its keys. */
  readonly octets: { readonly invite: number; readonly ok: number; readonly bye: number; readonly byeOk: number };
}

const ALICE = "sip:alice@example.org";
const BOB = "sip:bob@example.org";
const PSK = utf8("sixteen octets or more of a pre-shared key");

function description(port: number): string {
  return [
    "v=0",
    `o=- ${port} 1 IN IP4 192.0.2.1`,
    "s=-",
    "c=IN IP4 192.0.2.1",
    "t=0 0",
    `m=audio ${port} RTP/AVP 0`,
    "a=rtpmap:0 PCMU/8000",
    "a=sendrecv",
    "",
  ].join("\r\n");
}

type Step = keyof SipBenchResult["milliseconds"] | "hangUp";

/** One whole call. @param note told the milliseconds of each step */
async function call(alice: SipKeying, bob: SipKeying, number: number, note: (step: Step, milliseconds: number) => void) {
  const facts = { callId: `call-${number}`, callerTag: "a", ssrcFor: () => 1 };
  const [caller, callee] = [alice.dialog({ ...facts, remote: BOB }), bob.dialog({ ...facts, remote: ALICE })];
  const timed = async <T>(step: Step, work: () => Promise<T>): Promise<T> => {
    const since = performance.now();
    const result = await work();
    note(step, performance.now() - since);
    return result;
  };
  const offer = await timed("offer", () => caller.createOffer(description(4000)));
  await timed("acceptOffer", () => callee.acceptOffer(offer));
  const answer = await timed("answer", () => callee.createAnswer(description(4002)));
  await timed("acceptAnswer", () => caller.acceptAnswer(answer));
  const ended = await timed("hangUp", async () => hangUp(caller, callee));
  return { offer, answer, ...ended };
}

function hangUp(caller: SipDialog, callee: SipDialog) {
  const bye = caller.end();
  const { verdict, body: ok } = callee.acceptEnd(bye);
  if (verdict !== "verified" || caller.acceptEndAnswer(ok) !== "verified") throw new Error(`the proof was ${verdict}`);
  caller.close();
  callee.close();
  return { bye: bye?.content ?? "", ok: ok?.content ?? "" };
}

/** @param calls number of calls per backend */
export async function benchSip(calls = 1000): Promise<SipBenchResult[]> {
  const results: SipBenchResult[] = [];
  for (const crypto of [nodeCrypto, nobleCrypto]) results.push(await measure(crypto, calls));
  return results;
}

async function measure(crypto: CryptoProvider, calls: number): Promise<SipBenchResult> {
  const timers = { after: () => ({ cancel() {} }), every: () => ({ cancel() {} }) };
  const end = (uri: string, party: string): SipKeying =>
    createPskSipKeying({ uri, keys: new Map([[party, PSK]]), crypto, timers, clock: { now: () => Date.now() } });
  const [alice, bob] = [end(ALICE, BOB), end(BOB, ALICE)];
  const times: Record<Step, number[]> = { offer: [], acceptOffer: [], answer: [], acceptAnswer: [], hangUp: [] };
  for (let number = 0; number < calls / 10; number++) await call(alice, bob, number, () => {});
  let last: Awaited<ReturnType<typeof call>> | undefined;
  for (let number = 0; number < calls; number++) {
    last = await call(alice, bob, calls + number, (step, milliseconds) => void times[step].push(milliseconds));
  }
  const { offer = "", answer = "", bye = "", ok = "" } = last ?? {};
  const headers = "Content-Type: application/mikey\r\nContent-Disposition: signal;handling=optional\r\n".length;
  return {
    backend: crypto.name,
    callsPerSecond: 1000 / Object.values(times).reduce((sum, values) => sum + median(values), 0),
    milliseconds: {
      offer: median(times.offer),
      acceptOffer: median(times.acceptOffer),
      answer: median(times.answer),
      acceptAnswer: median(times.acceptAnswer),
    },
    octets: {
      invite: offer.length - description(4000).length,
      ok: answer.length - description(4002).length,
      bye: bye.length + headers,
      byeOk: ok.length + headers,
    },
  };
}

/** Other programs that run on the machine make some steps slow, not half of them. */
function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}

if (import.meta.url === `file://${process.argv[1]}`) console.log(await benchSip());
