import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Endpoint } from "../../src/io/index.js";
import { type Finishing, type RunningProcess, startProcess } from "../process.js";

/** The party that sipp plays. */
export const SIPP = "sip:sipp@interop.test";

/** One step of a scenario, as sipp's XML. */
export type Step = string;

/** What follows the head of a message: nothing, or a file that is read when the message is sent. */
export interface Body {
  readonly type: string;
  readonly file: string;
}

const UAC_HEADERS = (method: string, cseq: number, branch: string): string[] => [
  `Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=${branch};rport`,
  `From: <${SIPP}>;tag=[pid]u[call_number]`,
  "Call-ID: [call_id]",
  `CSeq: ${cseq} ${method}`,
  "Contact: <sip:sipp@[local_ip]:[local_port]>",
  "Max-Forwards: 70",
];

/** A request within a call that sipp began. `to` is the URI that it calls. */
export function request(method: string, cseq: number, to: string, body?: Body): Step {
  const first = cseq === 1 && method === "INVITE";
  // An ACK to 2xx is a transaction of its own (RFC 3261 §13.2.2.4).
  const lines = [
    `${method} ${first ? to : "[next_url]"} SIP/2.0`,
    ...UAC_HEADERS(method, cseq, "[branch]"),
    first ? `To: <${to}>` : "[last_To:]",
  ];
  return send(lines, body, method !== "ACK");
}

/** The ACK to a refusal: part of the INVITE's transaction (RFC 3261 §17.1.1.3). */
export function refusalAck(to: string, cseq = 1): Step {
  const uri = cseq === 1 ? to : "[next_url]";
  return send([`ACK ${uri} SIP/2.0`, ...UAC_HEADERS("ACK", cseq, "[branch-1]"), "[last_To:]"], undefined, false);
}

/** A response of a call that sipp takes. @param tag of the To header; none for requests within the dialog */
export function response(
  status: string,
  tag: string | undefined,
  body?: Body,
  headers: readonly string[] = [],
  repeated = false,
): Step {
  const to = tag === undefined ? "[last_To:]" : `[last_To:];tag=${tag}`;
  const contact = "Contact: <sip:sipp@[local_ip]:[local_port]>";
  return send(
    [`SIP/2.0 ${status}`, "[last_Via:]", "[last_From:]", to, "[last_Call-ID:]", "[last_CSeq:]", contact, ...headers],
    body,
    repeated,
  );
}

function send(lines: readonly string[], body: Body | undefined, repeated: boolean): Step {
  const content =
    body === undefined
      ? ["Content-Length: 0", "", ""]
      : [`Content-Type: ${body.type}`, "Content-Length: [len]", "", `[file name="${body.file}"]`];
  return `<send${repeated ? ' retrans="500"' : ""}><![CDATA[\n${[...lines, ...content].join("\n")}]]></send>`;
}

/** Expects a request. */
export function receiveRequest(method: string, checks: readonly Step[] = []): Step {
  return `<recv request="${method}"><action>${checks.join("")}</action></recv>`;
}

/** Expects a response; provisional ones may come before it. @param route the response tells where to send the rest of the call */
export function receiveResponse(status: number, checks: readonly Step[] = [], route = false): Step {
  const optional = [100, 180, 183].filter((code) => code !== status).map((code) => `<recv response="${code}" optional="true"/>`);
  return `${optional.join("\n")}\n<recv response="${status}"${route ? ' rrs="true"' : ""}><action>${checks.join("")}</action></recv>`;
}

let checks = 0;

/** The message has to match a POSIX regular expression. */
export function expectMatch(expression: string): Step {
  const text = expression.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/"/g, "&quot;");
  return `<ereg regexp="${text}" search_in="msg" check_it="true" assign_to="c${checks++}"/>`;
}

/** The message must not match. */
export function expectNoMatch(expression: string): Step {
  return expectMatch(expression).replace('check_it="true"', 'check_it_inverse="true"');
}

/** Time for the test to write the file of the next step. */
export const PAUSE: Step = '<pause milliseconds="1000"/>';

export interface SippOptions {
  readonly steps: readonly Step[];
  /** Whom it calls; without it waits for calls. */
  readonly remote?: Endpoint;
  readonly port?: number;
  readonly calls?: number;
  readonly args?: readonly string[];
}

/** A folder for the bodies of one test. */
export function makeFolder(test: Finishing): string {
  const folder = mkdtempSync(join(tmpdir(), "watchword-sipp-"));
  test.onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Starts sipp on loopback; its exit status is 0 when every call went as the scenario says. */
export function startSipp(test: Finishing, folder: string, options: SippOptions): RunningProcess {
  const { steps, remote, port, calls = 1, args = [] } = options;
  // Variables that a scenario assigns and does not use again are taken for mistakes unless they are referred to.
  const variables = [...new Set(steps.join("").match(/(?<=assign_to=")c\d+/g) ?? [])];
  const reference = variables.length === 0 ? "" : `<Reference variables="${variables.join(",")}"/>`;
  const xml = `<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="interop">\n${steps.join("\n")}\n${reference}\n</scenario>\n`;
  const file = join(folder, "scenario.xml");
  writeFileSync(file, xml);
  const local = ["-i", "127.0.0.1", ...(port === undefined ? [] : ["-p", String(port)])];
  const limits = [
    "-m",
    String(calls),
    "-l",
    "4",
    "-timeout",
    "40s",
    "-timeout_error",
    "-nostdin",
    "-trace_err",
    "-error_file",
    join(folder, "errors.log"),
  ];
  const target = remote === undefined ? [] : [`${remote.host}:${remote.port}`];
  return startProcess(test, "sipp", [...target, "-sf", file, ...local, ...limits, ...args], { cwd: folder, limit: 60_000 });
}
