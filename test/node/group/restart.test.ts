import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openSqliteStore, type SqliteStore } from "../../../src/node/index.js";
import { openSealedStore } from "../../../src/store/index.js";
import { definitionOn, join, localhost, type Server, startServer, type TestMember, until } from "./support.js";

/** Threads run TypeScript here. */
const TYPESCRIPT = ["--import", new URL("../../typescript-worker.js", import.meta.url).href];

describe("a key server that starts again over its store", () => {
  let folder: string;
  let sqlite: SqliteStore | undefined;
  let server: Server | undefined;
  const members: TestMember[] = [];

  beforeEach(() => {
    folder = mkdtempSync(joinPath(tmpdir(), "watchword-gcks-"));
  });

  afterEach(async () => {
    for (const { joined } of members.splice(0)) await joined.close();
    await stop();
    rmSync(folder, { recursive: true });
  });

  let uris: { readonly sip: string; readonly rtsp: string };

  /** Starts it, the second time where it was. */
  const start = async (rekey: Record<string, unknown> = {}): Promise<Server> => {
    sqlite = await openSqliteStore({ path: joinPath(folder, "gcks.db"), execArgv: TYPESCRIPT });
    const portOf = (uri: string | undefined): number => Number(/:(\d+)(?:$|[/;])/.exec(uri ?? "")?.[1] ?? 0);
    server = await startServer({
      groups: [definitionOn(47_060, {}, rekey)],
      store: await openSealedStore(sqlite, new Uint8Array(32).fill(7)),
      sip: [{ transport: "tcp", local: localhost(portOf(uris?.sip)) }],
      rtsp: [{ local: localhost(portOf(uris?.rtsp)) }],
    });
    const [sip = "", rtsp = ""] = server.service.urisOf("blue");
    uris = { sip, rtsp };
    return server;
  };
  const stop = async (): Promise<void> => {
    await server?.service.close();
    server = undefined;
    await sqlite?.close();
    sqlite = undefined;
  };

  const joining = async (uri: string, name: string): Promise<TestMember> => {
    const member = await join(uri, name);
    members.push(member);
    return member;
  };
  const identities = ({ service }: Server): string[] =>
    service.gcks
      .members("blue")
      .map(({ identity }) => identity)
      .sort();

  it("goes on with the same members and greater numbers", async () => {
    const { service } = await start();
    const speaker = await joining(uris.sip, "speaker");
    const listener = await joining(uris.rtsp, "listener");
    let number = 0;
    const hears = async (): Promise<void> => {
      const before = listener.heard.length;
      await until(() => {
        speaker.speak(number++);
        return listener.heard.length > before + 3;
      });
    };
    await hears();
    const [{ sequence = 0 } = {}] = service.gcks.groups;
    await stop();
    // Media goes on without the key server.
    await hears();
    const restarted = await start();
    const { service: again } = restarted;
    const [view] = again.gcks.groups;
    expect(view?.sequence).toBeGreaterThanOrEqual(sequence);
    expect(identities(restarted)).toEqual(["sip:listener@example.org", "sip:speaker@example.org"]);
    const before = speaker.joined.membership.streams[0]?.mki;
    await again.gcks.rekey("blue");
    await until(() => {
      speaker.speak(number++);
      return speaker.joined.membership.streams[0]?.mki !== before;
    });
    await hears();
  });

  /** Registered anew in place of the membership of before, and reached by rekey messages. */
  const registeredAgain = async ({ service: { gcks } }: Server, { joined, states }: TestMember): Promise<void> => {
    await until(() => gcks.metrics.registrations > 0 && joined.membership.state === "in-step");
    expect(states.some((state) => state.startsWith("missing: "))).toBe(true);
    await until(() => gcks.members("blue").length === 1);
    await gcks.rekey("blue");
    await until(() => joined.membership.sequence === gcks.groups[0]?.sequence);
    expect(gcks.metrics.registrations).toBe(1);
    expect(await joined.leave()).toBe("verified");
    expect(gcks.members("blue")).toEqual([]);
  };

  it.each(["sip", "rtsp"] as const)("has a member by %s register again that got rekey messages there", async (carrier) => {
    const policy = { resynchronisationDelay: 0.3, address: undefined };
    await start(policy);
    const member = await joining(uris[carrier], "listener");
    await stop();
    await registeredAgain(await start(policy), member);
  });

  it.each(["sip", "rtsp"] as const)("has a member by %s register again that has something to report", async (carrier) => {
    const policy = { resynchronisationDelay: 2 };
    await start(policy);
    const member = await joining(uris[carrier], "speaker");
    await stop();
    const restarted = await start(policy);
    await until(() => member.states.at(-1)?.startsWith("in-step") === true);
    expect(member.speak(0)).toBe(true);
    await registeredAgain(restarted, member);
  });

  it.each(["sip", "rtsp"] as const)(
    "lets a member leave by %s with a proof that has lost its dialog or session",
    async (carrier) => {
      // Longer than the test: it does not register before it leaves.
      const policy = { resynchronisationDelay: 600 };
      await start(policy);
      const { joined } = await joining(uris[carrier], "listener");
      const other = await joining(uris.sip, "speaker");
      await stop();
      const restarted = await start(policy);
      expect(await joined.leave()).toBe("verified");
      expect(identities(restarted)).toEqual(["sip:speaker@example.org"]);
      expect(restarted.audit.filter(({ type }) => type === "left").map(({ member }) => member)).toEqual([
        "sip:listener@example.org",
      ]);
      expect(other.joined.membership.state).not.toBe("idle");
    },
  );
});
