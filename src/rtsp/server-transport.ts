import { withoutZone } from "../io/index.js";
import type { MediaCarrier } from "./carrier.js";
import { headers } from "./message.js";
import { RtspRefusal } from "./refusal.js";
import type { Presentation } from "./server.js";
import type { Exchange } from "./server-exchange.js";
import type { MulticastGroup } from "./server-group.js";
import { parseTransport, type TransportSpec } from "./transport.js";

/** The first alternative that can be served. @throws RtspRefusal 461; 400 for a header that is none */
export function chooseTransport(
  { core, connection, request }: Exchange,
  { profile, multicast }: Pick<Presentation, "multicast"> & { readonly profile: string },
  mode = /(^|,)\s*PLAY\s*(,|$)/,
): TransportSpec {
  const value = headers(request, "Transport").join(",");
  let specs: readonly TransportSpec[];
  try {
    specs = parseTransport(value);
  } catch (error) {
    throw new RtspRefusal(value === "" ? 400 : 461, [], { cause: error });
  }
  const host = withoutZone(connection.stream.channel.remote.host);
  const chosen = specs.find((spec) => {
    if (spec.profile !== profile || spec.delivery !== (multicast === undefined ? "unicast" : "multicast")) return false;
    if (spec.mode !== undefined && !mode.test(spec.mode)) return false;
    if (multicast !== undefined) return spec.lower === "UDP" && (spec.destination ?? multicast.group) === multicast.group;
    // RFC 2326 §12.39: media goes nowhere but to who asks for it.
    if (spec.destination !== undefined && spec.destination !== host) return false;
    if (spec.lower === "TCP") return connection.channels.choose(spec.interleaved) !== undefined;
    const [rtp, rtcp] = spec.clientPort ?? [0, 0];
    return core.ports !== undefined && rtp > 0 && rtcp > 0 && rtp !== rtcp;
  });
  if (chosen === undefined) throw new RtspRefusal(461);
  return chosen;
}

/** RFC 2326 §12.39: of a group the server says address, ports and TTL, whatever the client would have liked. */
export async function joinGroup(
  { connection }: Exchange,
  group: MulticastGroup,
  index: number,
  { profile, lower }: TransportSpec,
): Promise<{ readonly carrier: MediaCarrier; readonly answer: TransportSpec }> {
  const { local, remote } = connection.stream.channel;
  try {
    const { carrier, address } = await group.join(index, remote.host);
    const { ports: port, ttl, source = local.host } = address;
    return { carrier, answer: { profile, lower, delivery: "multicast", destination: address.group, source, ttl, port } };
  } catch (error) {
    throw new RtspRefusal(503, [], { cause: error });
  }
}

export async function openCarrier(
  { core, connection }: Exchange,
  spec: TransportSpec,
): Promise<{ readonly carrier: MediaCarrier; readonly answer: TransportSpec }> {
  const { profile, lower } = spec;
  if (lower === "TCP") {
    const channels = connection.channels.choose(spec.interleaved);
    if (channels === undefined) throw new RtspRefusal(461);
    return { carrier: connection.channels.open(channels), answer: { profile, lower, delivery: "unicast", interleaved: channels } };
  }
  const { local, remote } = connection.stream.channel;
  if (core.ports === undefined || spec.clientPort === undefined) throw new RtspRefusal(461);
  try {
    const { carrier, ports } = await core.ports.open(local.host, { host: remote.host, ports: spec.clientPort });
    return { carrier, answer: { profile, lower, delivery: "unicast", clientPort: spec.clientPort, serverPort: ports } };
  } catch (error) {
    throw new RtspRefusal(503, [], { cause: error });
  }
}
