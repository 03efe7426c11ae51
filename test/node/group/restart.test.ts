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

  const start = async (rtspPort = 0): Promise<Server> => {
    sqlite = await openSqliteStore({ path: joinPath(folder, "gcks.db"), execArgv: TYPESCRIPT });
    server = await startServer({
      groups: [definitionOn(47_060)],
      store: await openSealedStore(sqlite, new Uint8Array(32).fill(7)),
      rtsp: [{ local: localhost(rtspPort) }],
    });
    return server;
  };
  const stop = async (): Promise<void> => {
    await server?.service.close();
    server = undefined;
    await sqlite?.close();
    sqlite = undefined;
  };

  it("goes on with the same members and greater numbers; who lost its session registers again", async () => {
    const { service } = await start();
    const [sip = "", rtsp = ""] = service.urisOf("blue");
    const port = Number(/:(\d+)\//.exec(rtsp.slice("rtsp://".length))?.[1]);
    const speaker = await join(sip, "speaker");
    const listener = await join(rtsp, "listener");
    members.push(speaker, listener);
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
    const { service: again } = await start(port);
    const [view] = again.gcks.groups;
    expect(view?.sequence).toBeGreaterThanOrEqual(sequence);
    expect(
      again.gcks
        .members("blue")
        .map(({ identity }) => identity)
        .sort(),
    ).toEqual(["sip:listener@example.org", "sip:speaker@example.org"]);
    const before = speaker.joined.membership.streams[0]?.mki;
    await again.gcks.rekey("blue");
    await until(() => {
      speaker.speak(number++);
      return speaker.joined.membership.streams[0]?.mki !== before;
    });
    await hears();
  });
});
