import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { definitionOn, join, type Server, startServer, type TestMember, TOKEN } from "./support.js";

describe("the administration of a key server", () => {
  let server: Server;
  const members: TestMember[] = [];

  beforeEach(async () => {
    server = await startServer({ groups: [definitionOn(47_040)] });
  });

  afterEach(async () => {
    for (const { joined } of members.splice(0)) await joined.close();
    await server.service.close();
  });

  const ask = async (method: string, path: string, body?: string, token: string | undefined = TOKEN) => {
    const response = await fetch(`${server.service.admin}${path}`, {
      method,
      headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { body }),
    });
    return { status: response.status, text: await response.text() };
  };

  it("lists, expels, readmits and rekeys", async () => {
    const [, rtsp = ""] = server.service.urisOf("blue");
    members.push(await join(rtsp, "listener"));
    expect(JSON.parse((await ask("GET", "/groups")).text)).toMatchObject([{ name: "blue", state: "active", members: 1 }]);
    expect(JSON.parse((await ask("GET", "/groups/blue/members")).text)).toMatchObject([{ identity: "sip:listener@example.org" }]);
    const expel = JSON.stringify({ member: "sip:listener@example.org" });
    expect(await ask("POST", "/groups/blue/expel", expel)).toMatchObject({ status: 200, text: '{"expelled":1}\n' });
    await expect(join(rtsp, "listener")).rejects.toMatchObject({ code: "member.refused" });
    expect(await ask("POST", "/groups/blue/readmit", '{"identity":"sip:listener@example.org"}')).toMatchObject({ status: 200 });
    members.push(await join(rtsp, "listener"));
    for (const operation of ["rekey", "replace", "restart", "end"])
      expect(await ask("POST", `/groups/blue/${operation}`), operation).toMatchObject({ status: 200 });
    expect(JSON.parse((await ask("GET", "/groups")).text)).toMatchObject([{ state: "ended" }]);
    await expect(join(rtsp, "listener")).rejects.toMatchObject({ code: "rtsp.status-404" });
  });

  it("lets nobody in without the token, and says nothing of why", async () => {
    const path = "/groups";
    for (const token of [undefined, "", "x", `${TOKEN}x`, TOKEN.slice(1)]) {
      const response = await fetch(`${server.service.admin}${path}`, {
        headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
      });
      expect(response.status).toBe(401);
      expect(response.headers.get("www-authenticate")).toBe("Bearer");
    }
  });

  it.each([
    ["GET", "/", undefined, 404],
    ["GET", "/groups/red/members", undefined, 404],
    ["GET", "/groups/%ff/members", undefined, 404],
    ["GET", "/groups/blue/rekey", undefined, 405],
    ["POST", "/groups/blue/constructor", undefined, 404],
    ["POST", "/groups/blue/expel", undefined, 400],
    ["POST", "/groups/blue/expel", "{", 400],
    ["POST", "/groups/blue/expel", "[1]", 400],
    ["POST", "/groups/blue/expel", '{"member":17}', 404],
    ["POST", "/groups/blue/expel", `{"member":"${"x".repeat(20_000)}"}`, 400],
    ["POST", "/groups/red/end", undefined, 404],
  ])("%s %s with %s is %i: it answers, and goes on", async (method, path, body, status) => {
    expect((await ask(method, path, body)).status).toBe(status);
    expect((await ask("GET", "/groups")).status).toBe(200);
  });

  it("counts for Prometheus", async () => {
    const response = await fetch(`${server.service.admin}/metrics`);
    expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
    const text = await response.text();
    expect(text).toContain("# TYPE watchword_gcks_members gauge\nwatchword_gcks_members 0\n");
    expect(text).toContain('watchword_gcks_group_members{group="blue"} 0\n');
    for (const line of text.trimEnd().split("\n"))
      expect(line).toMatch(/^(?:# (?:HELP|TYPE) \S+ .+|\w+(?:\{group="[^"]*"\})? \d+)$/);
  });
});
