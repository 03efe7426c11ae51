import { WatchwordError } from "../../bytes/index.js";
import type { Endpoint } from "../../io/index.js";
import { headerOf, type SipRequest, type Via, viaParameter } from "./message.js";

/** A transport protocol that a hop may be reached by. */
export type HopTransport = "UDP" | "TCP" | "TLS";

/** Where a message goes next. */
export interface Hop extends Endpoint {
  readonly transport: HopTransport;
}

const URI = /^(sips?):(?:[^@\s]*@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?((?:;[^?>\s]*)?)/i;

/**
 * The next hop of a request: its first Route, or its Request-URI (RFC 3261 §8.1.2, §12.2.1.1). Names are resolved by address records
 * alone, without the NAPTR and SRV records of RFC 3263. A transport that is TLS stays TLS.
 * @throws WatchwordError `node.sip-unreachable`
 */
export function nextHop(request: SipRequest, own: HopTransport): Hop {
  const route = /<([^>]*)>/.exec(headerOf(request.headers, "route") ?? "")?.[1];
  const text = route ?? request.uri;
  const match = URI.exec(text);
  if (match === null) throw unreachable(text, "it is not a SIP URI");
  const [, scheme = "", host = "", port, parameters = ""] = match;
  const stated = parameter(parameters, "transport")?.toUpperCase();
  const secure = scheme.toLowerCase() === "sips" || own === "TLS";
  if (stated !== undefined && stated !== "UDP" && stated !== "TCP" && stated !== "TLS")
    throw unreachable(text, `its transport is ${stated}`);
  const transport = secure ? "TLS" : (stated ?? own);
  return {
    transport,
    host: plainHost(parameter(parameters, "maddr") ?? host),
    port: checkedPort(text, port) ?? (transport === "TLS" ? 5061 : 5060),
  };
}

/** Where a response goes that no connection takes back (RFC 3261 §18.2.2, RFC 3581 §4). */
export function responseHop(via: Via): Hop {
  const { transport } = via;
  if (transport !== "UDP" && transport !== "TCP" && transport !== "TLS")
    throw unreachable(via.host, `its transport is ${transport}`);
  const host = plainHost(viaParameter(via, "received") ?? viaParameter(via, "maddr") ?? via.host);
  // rport is where the datagram came from; a new connection goes to where the peer listens.
  const rport = transport === "UDP" ? checkedPort(host, viaParameter(via, "rport") || undefined) : undefined;
  return { transport, host, port: rport ?? via.port ?? (transport === "TLS" ? 5061 : 5060) };
}

function parameter(parameters: string, name: string): string | undefined {
  for (const part of parameters.split(";")) {
    const equals = part.indexOf("=");
    if (equals > 0 && part.slice(0, equals).toLowerCase() === name) return part.slice(equals + 1);
  }
  return undefined;
}

function checkedPort(text: string, port: string | undefined): number | undefined {
  if (port === undefined) return undefined;
  const value = Number(port);
  if (!Number.isInteger(value) || value < 1 || value > 65_535) throw unreachable(text, "its port is none");
  return value;
}

/** Without the brackets of an IPv6 reference. */
function plainHost(host: string): string {
  return host.startsWith("[") ? host.slice(1, -1) : host;
}

function unreachable(target: string, reason: string): WatchwordError {
  return new WatchwordError("node.sip-unreachable", `${target.slice(0, 200)} cannot be reached: ${reason}`);
}
