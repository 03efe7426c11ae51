import { Command, InvalidArgumentError } from "commander";
import { WatchwordError } from "../bytes/index.js";
import type { GroupView, MemberView } from "../gcks/index.js";
import { formatHex32 } from "./hex32.js";
import { readTextFile, UsageError } from "./options.js";

interface AdminFlags {
  readonly url: string;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly json?: true;
}

const DEFAULT_URL = "http://127.0.0.1:8270";
const TOKEN_VARIABLE = "WATCHWORD_ADMIN_TOKEN";
const TIME = 30_000;

/** `watchword admin`: operations on the groups of a running key server. */
export function adminCommand(): Command {
  const command = new Command("admin").description("list, expel, rekey, replace, restart and end at a running key server");
  const add = (name: string, text: string): Command =>
    command
      .command(name)
      .description(text)
      .option("--url <http://host:port>", "where its administration is", parseUrl, DEFAULT_URL)
      .option("--token-file <file>", `its token (default: the variable ${TOKEN_VARIABLE})`, (path: string) =>
        readTextFile(path).trim(),
      )
      .option("--json", "print JSON");
  add("list", "groups, or the members of one")
    .argument("[group]")
    .action((group: string | undefined, flags: AdminFlags) => list(group, flags));
  add("expel", "throw a member out, and keep its identity out")
    .argument("<group>")
    .argument("<member>", "identity, or the number of a member")
    .action((group: string, member: string, flags: AdminFlags) =>
      operate(group, "expel", flags, { member: /^\d+$/.test(member) ? Number(member) : member }),
    );
  add("readmit", "let an identity join again that was expelled")
    .argument("<group>")
    .argument("<identity>")
    .action((group: string, identity: string, flags: AdminFlags) => operate(group, "readmit", flags, { identity }));
  for (const [name, text] of [
    ["rekey", "new keys for everybody, now"],
    ["replace", "replace every key, where some are known to others"],
    ["restart", "disband the group; its members register again"],
    ["end", "end the group with a signed farewell"],
  ] as const) {
    add(name, text)
      .argument("<group>")
      .action((group: string, flags: AdminFlags) => operate(group, name, flags));
  }
  return command.addHelpText(
    "after",
    `
Examples:
  WATCHWORD_ADMIN_TOKEN=… watchword admin list
  watchword admin expel blue sip:mallory@example.org --token-file admin.token

Exit status: 0 done, 1 refused or failed, 2 wrong usage.`,
  );
}

async function list(group: string | undefined, flags: AdminFlags): Promise<void> {
  const path = group === undefined ? "/groups" : `/groups/${encodeURIComponent(group)}/members`;
  const answer = await ask("GET", path, flags);
  if (flags.json === true) process.stdout.write(`${JSON.stringify(answer)}\n`);
  else if (group === undefined) for (const view of answer as GroupView[]) process.stdout.write(`${describeGroup(view)}\n`);
  else for (const view of answer as MemberView[]) process.stdout.write(`${describeMember(view)}\n`);
}

async function operate(group: string, operation: string, flags: AdminFlags, body: object = {}): Promise<void> {
  const answer = await ask("POST", `/groups/${encodeURIComponent(group)}/${operation}`, flags, body);
  if (flags.json === true) process.stdout.write(`${JSON.stringify(answer)}\n`);
  else {
    const { expelled } = answer as { readonly expelled?: number };
    // Who is misspelt is kept out too, which is not what was meant.
    const nobody = "nobody of that name is a member; it is kept out from now on (admin readmit takes that back)";
    process.stdout.write(`${expelled === undefined ? "done" : expelled === 0 ? nobody : `${expelled} expelled`}\n`);
  }
}

/** @throws (rejects) WatchwordError `cli.admin` */
async function ask(method: string, path: string, { url, tokenFile }: AdminFlags, body?: object): Promise<unknown> {
  const token = tokenFile ?? process.env[TOKEN_VARIABLE];
  if (token === undefined) throw new UsageError(`give --token-file FILE, or set ${TOKEN_VARIABLE}`);
  let response: Response;
  let answer: unknown;
  try {
    response = await fetch(new URL(path, url), {
      method,
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      signal: AbortSignal.timeout(TIME),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    answer = await response.json();
  } catch (error) {
    throw new WatchwordError("cli.admin", `no key server answers at ${url}`, { cause: error });
  }
  if (response.ok) return answer;
  const { error } = answer as { readonly error?: unknown };
  throw new WatchwordError(
    "cli.admin",
    `the key server refused: ${String(error ?? response.status).replace(/[^\x20-\x7e]/g, "?")}`,
  );
}

function describeGroup({ name, state, members, sequence, mkis }: GroupView): string {
  return `${name}: ${state}, ${members} members, sequence ${sequence}, MKI ${mkis.map(formatHex32).join(", ") || "none"}`;
}

function describeMember({ number, identity, role, state, admittedAt, ssrcs }: MemberView): string {
  const does = role.send ? (role.receive ? "both" : "sender") : "receiver";
  return `${number} ${identity}: ${does}, ${state}, since ${new Date(admittedAt).toISOString()}, SSRC ${ssrcs.join(", ") || "none"}`;
}

/** @throws InvalidArgumentError */
function parseUrl(text: string): string {
  if (!URL.canParse(text) || !/^https?:/.test(text)) throw new InvalidArgumentError("expected http://HOST:PORT");
  return text;
}
