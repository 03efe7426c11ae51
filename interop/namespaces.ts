import { spawnSync } from "node:child_process";
import { describe } from "vitest";
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
  else describe.skip(`${title} (network namespaces need iproute2 and root)`, define);
}
