/** Administration of a key server over HTTP, and its metrics for Prometheus. */
import { createHash, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { WatchwordError } from "../../bytes/index.js";
import type { Gcks, GcksMetrics } from "../../gcks/index.js";
import type { Logger } from "../../io/index.js";
import { formatEndpoint } from "../datagrams.js";
import { nodeError } from "../errors.js";
import type { AdminOptions } from "./contracts.js";

export interface AdminServer {
  /** `http://127.0.0.1:8270`. */
  readonly url: string;
  close(): Promise<void>;
}

const LEAST_TOKEN = 16;
/** Octets of a request's body. */
const MOST_BODY = 16_384;
/** Milliseconds for a whole request. */
const REQUEST_TIME = 10_000;

/** What the operations on a group take, and what comes of them. */
const OPERATIONS: Readonly<
  Record<string, (gcks: Gcks, group: string, body: Readonly<Record<string, unknown>>) => Promise<unknown>>
> = {
  expel: async (gcks, group, { member }) => {
    if (typeof member !== "string" && !(typeof member === "number" && Number.isInteger(member)))
      throw new WatchwordError("node.admin-request", "member is an identity, or the number of a member");
    return { expelled: await gcks.expel(group, member) };
  },
  readmit: async (gcks, group, { identity }) => {
    if (typeof identity !== "string") throw new WatchwordError("node.admin-request", "identity is missing");
    await gcks.readmit(group, identity);
    return {};
  },
  rekey: (gcks, group) => gcks.rekey(group).then(() => ({})),
  replace: (gcks, group) => gcks.replace(group).then(() => ({})),
  restart: (gcks, group) => gcks.restart(group).then(() => ({})),
  end: (gcks, group) => gcks.end(group).then(() => ({})),
};

/** What an error of an operation is to a client of HTTP. */
const STATUS: Readonly<Record<string, number>> = {
  "gcks.unknown-group": 404,
  "gcks.unknown-member": 404,
  "node.admin-request": 400,
};

/**
 * Serves `GET /groups`, `GET /groups/NAME/members`, `POST /groups/NAME/OPERATION` with a bearer token, and `GET /metrics` without.
 * @throws (rejects) WatchwordError `node.admin-token`, and those of the socket
 */
export async function startAdminServer({ local, token }: AdminOptions, gcks: Gcks, logger: Logger): Promise<AdminServer> {
  if (token.length < LEAST_TOKEN)
    throw new WatchwordError("node.admin-token", `the token of the administration has at least ${LEAST_TOKEN} characters`);
  const expected = digest(token);
  const server = createServer({ requestTimeout: REQUEST_TIME, headersTimeout: REQUEST_TIME }, (request, response) => {
    answer(request, gcks, expected, logger).then(
      ({ status, type = "application/json", body }) => {
        response.writeHead(status, {
          "Content-Type": type,
          "Cache-Control": "no-store",
          ...(status === 401 ? { "WWW-Authenticate": "Bearer" } : {}),
        });
        response.end(body);
      },
      (error: unknown) => failed(response, error, logger),
    );
  });
  server.maxConnections = 64;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(nodeError(error, `listen on ${formatEndpoint(local)}`)));
    server.listen(local.port, local.host, resolve);
  });
  const { address, port } = server.address() as AddressInfo;
  return {
    url: `http://${formatEndpoint({ host: address, port })}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

interface Answer {
  readonly status: number;
  readonly type?: string;
  readonly body: string;
}

async function answer(request: IncomingMessage, gcks: Gcks, expected: Uint8Array, logger: Logger): Promise<Answer> {
  const { method = "", url = "" } = request;
  const path = url.split("?")[0] ?? "";
  if (path === "/metrics") return method === "GET" ? metrics(gcks) : problem(405, "only GET");
  if (!authorised(request, expected)) return problem(401, "a bearer token is needed");
  const parts = path.split("/").map(decoded);
  const [, root, name, what, ...rest] = parts;
  if (root !== "groups" || rest.length > 0 || parts.includes(undefined)) return problem(404, "there is nothing here");
  try {
    if (name === undefined) return method === "GET" ? json(gcks.groups) : problem(405, "only GET");
    if (what === "members") return method === "GET" ? json(gcks.members(name)) : problem(405, "only GET");
    const operation = what !== undefined && Object.hasOwn(OPERATIONS, what) ? OPERATIONS[what] : undefined;
    if (operation === undefined) return problem(404, `operations: ${Object.keys(OPERATIONS).join(", ")}`);
    if (method !== "POST") return problem(405, "only POST");
    const body = await bodyOf(request);
    const result = await operation(gcks, name, body);
    logger.info("administration", { operation: what, group: name });
    return json(result);
  } catch (error) {
    if (!(error instanceof WatchwordError)) throw error;
    return problem(STATUS[error.code] ?? 409, error.message, error.code);
  }
}

function failed(response: ServerResponse, error: unknown, logger: Logger): void {
  logger.error("administration failed", { error: String(error) });
  if (!response.headersSent) response.writeHead(500);
  response.end();
}

/** The digests are compared: neither content nor length of the token shows in the time that it takes. */
function authorised({ headers }: IncomingMessage, expected: Uint8Array): boolean {
  const token = /^Bearer +([\x21-\x7e]+)$/i.exec(headers.authorization ?? "")?.[1];
  return token !== undefined && timingSafeEqual(digest(token), expected);
}

function digest(token: string): Uint8Array {
  return createHash("sha256").update(token).digest();
}

function decoded(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

async function bodyOf(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  let text = "";
  request.setEncoding("utf8");
  for await (const part of request) {
    text += part as string;
    if (text.length > MOST_BODY) throw new WatchwordError("node.admin-request", "the body is too long");
  }
  if (text.trim() === "") return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new WatchwordError("node.admin-request", "the body is not JSON", { cause: error });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new WatchwordError("node.admin-request", "the body is not a JSON object");
  return value as Readonly<Record<string, unknown>>;
}

function json(value: unknown): Answer {
  return { status: 200, body: `${JSON.stringify(value)}\n` };
}

function problem(status: number, message: string, code?: string): Answer {
  return { status, body: `${JSON.stringify({ error: message, ...(code === undefined ? {} : { code }) })}\n` };
}

/** Names and kinds by what is counted. */
const METRICS: Readonly<Record<keyof GcksMetrics, readonly [name: string, kind: "gauge" | "counter", help: string]>> = {
  groups: ["groups", "gauge", "Groups that are defined."],
  members: ["members", "gauge", "Members of all groups."],
  sessions: [
    "sessions",
    "gauge",
    "Registrations that are remembered to be answered again, for half a minute, and those that came from a file.",
  ],
  registrations: ["registrations_total", "counter", "Memberships that were granted."],
  refusals: ["refusals_total", "counter", "Registrations that were refused."],
  rekeys: ["rekeys_total", "counter", "Changes of keys."],
  rekeyPackets: ["rekey_packets_total", "counter", "Rekey messages that were sent."],
  rekeyOctets: ["rekey_octets_total", "counter", "Octets of rekey messages."],
  wraps: ["wraps_total", "counter", "Keys that were wrapped."],
  departures: ["departures_total", "counter", "Members that left with a proof."],
  expulsions: ["expulsions_total", "counter", "Members that were expelled."],
  reports: ["reports_total", "counter", "Reports that were authentic."],
  reportsRefused: ["reports_refused_total", "counter", "Reports that were not."],
};

/** Text format of Prometheus, version 0.0.4. */
function metrics(gcks: Gcks): Answer {
  const values = gcks.metrics;
  const lines = Object.entries(METRICS).flatMap(([key, [name, kind, help]]) => [
    `# HELP watchword_gcks_${name} ${help}`,
    `# TYPE watchword_gcks_${name} ${kind}`,
    `watchword_gcks_${name} ${values[key as keyof GcksMetrics]}`,
  ]);
  lines.push("# HELP watchword_gcks_group_members Members of one group.", "# TYPE watchword_gcks_group_members gauge");
  for (const { name, members } of gcks.groups) lines.push(`watchword_gcks_group_members{group="${label(name)}"} ${members}`);
  return { status: 200, type: "text/plain; version=0.0.4; charset=utf-8", body: `${lines.join("\n")}\n` };
}

function label(text: string): string {
  return text.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");
}
