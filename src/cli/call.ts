import { Command } from "commander";
import { WatchwordError } from "../bytes/index.js";
import type { Timer } from "../io/index.js";
import { steadyClock, systemTimers } from "../node/index.js";
import type { SipCall, SipUserAgent } from "../node/sip/index.js";
import { ReportedError } from "./errors.js";
import { untilStopped } from "./lifetime.js";
import { integerBetween, parseEndpoint, parseSeconds, UsageError } from "./options.js";
import {
  addSipOptions,
  checkSipOptions,
  endpointOfAddress,
  failureOf,
  mediaOf,
  reportEnd,
  reportKeys,
  type SipFlags,
  startAgent,
  status,
  superviseCall,
} from "./sip.js";

interface CallFlags extends SipFlags {
  readonly packets?: number;
  readonly lateOffer?: true;
}

/** Milliseconds between two looks at the packet counter. */
const COUNT_INTERVAL = 20;

/** `watchword call`: places a SIP call whose SRTP is keyed by MIKEY. */
export function callCommand(): Command {
  const command = new Command("call")
    .description("place a SIP call whose SRTP is keyed by MIKEY")
    .argument("<sip:uri>", "whom to call", (text: string) => {
      endpointOfAddress(text);
      return text;
    });
  return addSipOptions(command)
    .option("--listen <host:port>", "local address (default: the one that leads to the other party, any port)", parseEndpoint)
    .option("--late-offer", "let the other party make the offer")
    .option("--duration <seconds>", "hang up after this time", parseSeconds)
    .option("--packets <n>", "hang up after this many RTP packets", integerBetween(1, 1_000_000_000))
    .addHelpText(
      "after",
      `
Examples:
  watchword call sip:watchword@127.0.0.1:5060 --psk "$(cat keys.txt)" --duration 10 --json
  watchword call sip:bob@example.org --proxy sip.example.org:5060 --key alice.key --cert alice.pem --ca ca.pem --mode dh
  watchword call sip:bob@example.org --proxy sip.example.org:5061 --transport tls --user alice:secret --psk-file keys.txt
  watchword call sip:bob@example.org --proxy wss://sip.example.org/ --transport ws --user alice:secret --psk-file keys.txt --out bob.rtpdump

Exit status: 0 the call stood and ended, 1 it was refused or failed, 2 wrong usage.`,
    )
    .action(call);
}

async function call(target: string, flags: CallFlags): Promise<void> {
  checkSipOptions(flags);
  if (flags.mode?.[0] === "pk" && flags.peerCert === undefined && flags.lateOffer !== true)
    throw new UsageError("--mode pk encrypts to the other party: give its certificate by --peer-cert");
  const agent = await startAgent(flags, endpointOfAddress(target, flags.transport), {
    onKeyed: reportKeys,
    onDisconnect: (error) => status(`the SIP server is gone: ${error.message}`),
  });
  const waiting = untilStopped();
  try {
    const placing = agent.call(target, { ...mediaOf(flags), lateOffer: flags.lateOffer === true });
    // Whoever is stopped while it rings closes the user agent, and with it the call.
    placing.catch(() => {});
    const stopped = waiting.over.then(() => Promise.reject(new WatchwordError("cli.stopped", "stopped before the call stood")));
    const placed = await Promise.race([placing, stopped]);
    await talk(agent, placed, flags, waiting.over);
  } finally {
    waiting.cancel();
    await agent.close();
  }
}

async function talk(agent: SipUserAgent, placed: SipCall, flags: CallFlags, stopped: Promise<unknown>): Promise<void> {
  const started = steadyClock.now();
  superviseCall(placed, flags);
  await Promise.race([stopped, placed.ended, enough(placed, flags)]);
  const end = await placed.hangUp();
  reportEnd(placed, end, (steadyClock.now() - started) / 1000, flags);
  await agent.close();
  // A call that broke is a failure; one that somebody hung up is none, whatever its proof.
  if (end.by === "failure") throw new ReportedError(failureOf(end));
}

/** Resolves when the time is over or the packets are there. */
function enough(placed: SipCall, { duration, packets }: CallFlags): Promise<void> {
  return new Promise((resolve) => {
    const received = (): number => placed.statistics.reduce((sum, line) => sum + line.packets, 0);
    const timers: Timer[] = [];
    if (duration !== undefined) timers.push(systemTimers.after(duration * 1000, resolve));
    if (packets !== undefined) timers.push(systemTimers.every(COUNT_INTERVAL, () => received() >= packets && resolve()));
    void placed.ended.then(() => {
      for (const timer of timers) timer.cancel();
    });
  });
}
