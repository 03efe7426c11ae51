import { Command } from "commander";
import { steadyClock } from "../node/index.js";
import type { IncomingCall } from "../node/sip/index.js";
import { describeError } from "./errors.js";
import { untilStopped } from "./lifetime.js";
import { integerBetween, parseEndpoint, parseSeconds, readTextFile } from "./options.js";
import {
  addSipOptions,
  checkSipOptions,
  mediaOf,
  reportEnd,
  reportKeys,
  reportRefusal,
  type SipFlags,
  startAgent,
  status,
  superviseCall,
} from "./sip.js";

interface AnswerFlags extends SipFlags {
  readonly calls?: number;
}

/** Where calls come in without a SIP server. */
const DEFAULT_LISTEN = { host: "127.0.0.1", port: 5060 };
/** RFC 3261 §21.4.24: one call at a time. */
const BUSY = 486;

/** `watchword answer`: takes SIP calls. */
export function answerCommand(): Command {
  return addSipOptions(new Command("answer").description("take SIP calls whose SRTP is keyed by MIKEY, one at a time"))
    .option(
      "--listen <host:port>",
      "local address (default: 127.0.0.1:5060, with --proxy the one that leads there and any port)",
      parseEndpoint,
    )
    .option("--tls-cert <file>", "PEM certificate chain of --transport tls", readTextFile)
    .option("--tls-key <file>", "PEM private key", readTextFile)
    .option("--calls <n>", "end after this many calls", integerBetween(1, 1_000_000_000))
    .option("--duration <seconds>", "end after this time", parseSeconds)
    .addHelpText(
      "after",
      `
Examples:
  watchword keygen psk > keys.txt
  watchword answer --psk-file keys.txt
  watchword answer --proxy sip.example.org:5060 --transport tcp --user bob:secret --register --psk-file keys.txt --out call.rtpdump

Exit status: 0 done, 1 the SIP server or the network failed, 2 wrong usage.`,
    )
    .action(answer);
}

async function answer(flags: AnswerFlags): Promise<void> {
  checkSipOptions(flags);
  const listen = flags.listen ?? (flags.proxy === undefined ? DEFAULT_LISTEN : undefined);
  const calls = new Calls(flags);
  const waiting = untilStopped(flags.duration);
  let failure: Error | undefined;
  const lost = new Promise<void>((resolve) => {
    calls.onEnough = resolve;
    calls.onLost = (error) => {
      failure = error;
      resolve();
    };
  });
  try {
    const agent = await startAgent(listen === undefined ? flags : { ...flags, listen }, undefined, {
      onCall: (call) => calls.take(call),
      onKeyed: reportKeys,
      onDisconnect: (error) => calls.onLost(error),
    });
    process.stdout.write(`answering ${agent.uri}\n`);
    await Promise.race([waiting.over, lost]);
    await agent.close();
    await calls.finished();
  } finally {
    waiting.cancel();
  }
  if (failure !== undefined) throw failure;
}

/** The calls of one run. */
class Calls {
  onEnough: () => void = () => {};
  onLost: (error: Error) => void = () => {};
  readonly #flags: AnswerFlags;
  #current: Promise<void> | undefined;
  #count = 0;

  constructor(flags: AnswerFlags) {
    this.#flags = flags;
  }

  finished(): Promise<void> {
    return this.#current ?? Promise.resolve();
  }

  take(incoming: IncomingCall): void {
    if (this.#current !== undefined || this.#count === this.#flags.calls) {
      void incoming.reject(BUSY);
      return;
    }
    this.#current = this.#talk(incoming).finally(() => {
      this.#current = undefined;
      if (this.#count === this.#flags.calls) this.onEnough();
    });
  }

  async #talk(incoming: IncomingCall): Promise<void> {
    try {
      const started = steadyClock.now();
      const call = await incoming.accept(mediaOf(this.#flags, this.#count));
      this.#count++;
      superviseCall(call, this.#flags);
      reportEnd(call, await call.ended, (steadyClock.now() - started) / 1000, this.#flags);
    } catch (error) {
      status(`refused a call from ${incoming.from}: ${describeError(error)}`);
      if (this.#flags.json === true) reportRefusal(incoming.from, error);
    }
  }
}
