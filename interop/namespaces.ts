import { spawnSync } from "node:child_process";
import { describe } from "vitest";
import { WITHOUT_NAMESPACES } from "./features.js";
import type { Finishing } from "./process.js";

/** One of two network namespaces that a virtual cable connects. */
export interface Namespace {
  readonly name: string;
  /** Its end of the cable. */
  readonly device: string;
  readonly address: string;
  /** A command line that runs in it. */
  inside(command: string, args: readonly string[]): readonly [command: string, args: readonly string[]];
}

let made = 0;

/** Two namespaces that know multicast, and are gone when the test ends. */
export function createNamespaces(test: Finishing): readonly [Namespace, Namespace] {
  const id = `${process.pid.toString(36)}${made++}`;
  const ends = ["a", "b"].map((side, index): Namespace => {
    const name = `ww${id}${side}`;
    return {
      name,
      device: `v${id}${side}`,
      address: `10.77.${made % 250}.${index + 1}`,
      inside: (command, args) => ["ip", ["netns", "exec", name, command, ...args]],
    };
  }) as [Namespace, Namespace];
  const [a, b] = ends;
  test.onTestFinished(() => {
    for (const { name } of ends) spawnSync("ip", ["netns", "del", name]);
  });
  for (const { name } of ends) ip("netns", "add", name);
  ip("link", "add", a.device, "netns", a.name, "type", "veth", "peer", "name", b.device, "netns", b.name);
  for (const { name, device, address } of ends) {
    ip("-n", name, "address", "add", `${address}/24`, "dev", device);
    for (const link of ["lo", device]) ip("-n", name, "link", "set", link, "up");
    ip("-n", name, "route", "add", "224.0.0.0/4", "dev", device);
  }
  return [a, b];
}

/** A namespace at one or several segments of a network. */
export interface Place extends Omit<Namespace, "device" | "address"> {
  /** Its ends of cables, by name of the segment. */
  readonly at: Readonly<Record<string, { readonly device: string; readonly address: string }>>;
}

export interface Network {
  place(name: string): Place;
  /** Pulls the cable of a place out of a segment, or plugs it in again. */
  plug(name: string, segment: string, plugged: boolean): void;
}

/**
 * Namespaces at segments where everybody hears everybody, multicast included. Who is at two segments routes unicast between them; multicast
 * passes by programs alone. All is gone when the test ends.
 * @param segments names of places by name of the segment
 */
export function createNetwork(test: Finishing, segments: Readonly<Record<string, readonly string[]>>): Network {
  const id = `${process.pid.toString(36)}${made++}`;
  const hub = `ww${id}hub`;
  const names = [...new Set(Object.values(segments).flat())];
  const spaceOf = (name: string): string => `ww${id}${name}`;
  test.onTestFinished(() => {
    for (const name of [hub, ...names.map(spaceOf)]) spawnSync("ip", ["netns", "del", name]);
  });
  for (const name of [hub, ...names.map(spaceOf)]) ip("netns", "add", name);
  const at = new Map<string, Record<string, { device: string; address: string }>>(names.map((name) => [name, {}]));
  const ports = new Map<string, string>();
  let cables = 0;
  for (const [index, [segment, members]] of Object.entries(segments).entries()) {
    const bridge = `br${index}`;
    // Without snooping a bridge hands multicast to all.
    ip("-n", hub, "link", "add", bridge, "type", "bridge", "mcast_snooping", "0");
    ip("-n", hub, "link", "set", bridge, "up");
    for (const [host, name] of members.entries()) {
      const [device, port] = [`v${id}${cables}`, `p${id}${cables++}`];
      const space = spaceOf(name);
      const address = `10.78.${(8 * made + index) % 250}.${host + 1}`;
      ip("link", "add", device, "netns", space, "type", "veth", "peer", "name", port, "netns", hub);
      ip("-n", hub, "link", "set", port, "master", bridge, "up");
      ip("-n", space, "address", "add", `${address}/24`, "dev", device);
      for (const link of ["lo", device]) ip("-n", space, "link", "set", link, "up");
      ports.set(`${name} ${segment}`, port);
      (at.get(name) as Record<string, { device: string; address: string }>)[segment] = { device, address };
    }
  }
  for (const name of names) {
    const [first] = Object.entries(at.get(name) ?? {});
    const [segment, { device }] = first as [string, { device: string; address: string }];
    ip("-n", spaceOf(name), "route", "add", "224.0.0.0/4", "dev", device);
    const router = names.find((other) => other !== name && Object.keys(at.get(other) ?? {}).length > 1 && at.get(other)?.[segment]);
    const gateway = router === undefined ? undefined : at.get(router)?.[segment]?.address;
    if (gateway !== undefined) ip("-n", spaceOf(name), "route", "add", "default", "via", gateway);
    if (Object.keys(at.get(name) ?? {}).length > 1)
      ip("netns", "exec", spaceOf(name), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward");
  }
  return {
    place: (name) => ({
      name: spaceOf(name),
      at: at.get(name) ?? {},
      inside: (command, args) => ["ip", ["netns", "exec", spaceOf(name), command, ...args]],
    }),
    plug(name, segment, plugged) {
      ip("-n", hub, "link", "set", ports.get(`${name} ${segment}`) as string, plugged ? "up" : "down");
    },
  };
}

function ip(...args: readonly string[]): void {
  const result = spawnSync("ip", args, { encoding: "utf8" });
  if (result.status !== 0) throw new Error(`ip ${args.join(" ")}: ${result.stderr}`);
}

/** Whether this user may make namespaces here. */
function possible(): boolean {
  const name = `ww${process.pid.toString(36)}probe`;
  if (spawnSync("ip", ["netns", "add", name], { stdio: "ignore" }).status !== 0) return false;
  const cable = ["-n", name, "link", "add", "vprobe", "type", "veth", "peer", "name", "wprobe"];
  const connected = spawnSync("ip", cable, { stdio: "ignore" }).status === 0;
  spawnSync("ip", ["netns", "del", name], { stdio: "ignore" });
  return connected;
}

/** Runs `define` where namespaces can be made; elsewhere its tests are skipped by name. */
export function describeNamespaces(title: string, define: () => void): void {
  if (possible()) describe(title, define);
  else describe.skip(`${title} ${WITHOUT_NAMESPACES}`, define);
}
