import { WatchwordError } from "../../bytes/index.js";
import type { GroupDefinition } from "../../gcks/index.js";
import type { Datagrams, DatagramsFactory, Endpoint } from "../../io/index.js";
import type { ControlOptions } from "./contracts.js";

/** The sockets of a key server: one for each control group, and the rekey server address. */
export interface ControlSockets {
  readonly local: Endpoint | undefined;
  /** @param address `udp://239.0.0.1:2269` */
  readonly multicast: (address: string, datagram: Uint8Array) => void;
  readonly unicast: ((datagram: Uint8Array, to: Endpoint) => void) | undefined;
  onReport: ((datagram: Uint8Array, from: Endpoint) => void) | undefined;
  close(): void;
}

/** @throws (rejects) as the factory, with nothing left open */
export async function openControlSockets(
  factory: DatagramsFactory,
  groups: readonly GroupDefinition[],
  { local, interface: device, ttl }: ControlOptions,
): Promise<ControlSockets> {
  const sockets = new Map<string, { readonly socket: Datagrams; readonly to: Endpoint }>();
  let server: Datagrams | undefined;
  const close = (): void => {
    for (const { socket } of sockets.values()) socket.close();
    server?.close();
  };
  try {
    for (const { rekey } of groups) {
      const address = rekey?.controlAddress;
      if (address === undefined || sockets.has(address)) continue;
      const to = parseAddress(address);
      const socket = await factory.bindMulticast({
        group: to.host,
        port: 0,
        ...(device === undefined ? {} : { interface: device }),
        ...(ttl === undefined ? {} : { ttl }),
      });
      sockets.set(address, { socket, to });
    }
    if (local !== undefined) server = await factory.bind(local);
  } catch (error) {
    close();
    throw error;
  }
  const control: ControlSockets = {
    local: server?.local,
    multicast: (address, datagram) => {
      const way = sockets.get(address);
      way?.socket.send(datagram, way.to);
    },
    unicast: server === undefined ? undefined : (datagram, to) => server?.send(datagram, to),
    onReport: undefined,
    close,
  };
  if (server !== undefined) server.onDatagram = (datagram, from) => control.onReport?.(datagram, from);
  return control;
}

/** `udp://239.0.0.1:2269`, `rtp://[ff15::1]:5004`. @throws WatchwordError `node.group-address` */
export function parseAddress(uri: string): Endpoint {
  const match = /^[a-z]+:\/\/(?:\[([0-9a-f:.]+)\]|([^:[\]/]+)):(\d{1,5})$/i.exec(uri);
  const port = Number(match?.[3]);
  if (match === null || port < 1 || port > 65_535)
    throw new WatchwordError("node.group-address", `${uri.slice(0, 100)} is no address with a port`);
  return { host: (match[1] ?? match[2]) as string, port };
}
