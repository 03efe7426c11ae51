import type { Datagrams, DatagramsFactory, Endpoint } from "../../io/index.js";
import { isMulticast } from "../../io/index.js";
import type { GroupStream } from "../../member/index.js";
import { parseAddress } from "./control.js";

/** The sockets of one m= line: SRTP of the group on one side, plain RTP of an application on the other. */
export interface StreamBridgeOptions {
  readonly stream: GroupStream;
  /** Where packets of the group go and come from, by the description, where its policy does not say. */
  readonly described: (Endpoint & { readonly ttl?: number }) | undefined;
  readonly datagrams: DatagramsFactory;
  readonly interface?: string;
  /** Plain RTP comes in here, RTCP on the next port. */
  readonly input?: Endpoint;
  /** Plain RTP goes there, RTCP to the next port. */
  readonly output?: Endpoint;
  readonly onRtp?: (packet: Uint8Array, ssrc: number) => void;
}

/** A bridge at work. */
export interface StreamBridge {
  /** Sends RTP of an application to the group. @returns whether it was sent */
  send(packet: Uint8Array): boolean;
  sendRtcp(packet: Uint8Array): boolean;
  /** Where plain RTP comes in. */
  readonly input: Endpoint | undefined;
  /** Follows the group to another address, where a new registration says so. @throws (rejects) as the factory */
  follow(): Promise<void>;
  close(): void;
}

/** @throws (rejects) as the factory */
export async function openStreamBridge(options: StreamBridgeOptions): Promise<StreamBridge> {
  const bridge = new Bridge(options);
  try {
    await bridge.follow();
    await bridge.listen();
  } catch (error) {
    bridge.close();
    throw error;
  }
  return bridge;
}

class Bridge implements StreamBridge {
  readonly #options: StreamBridgeOptions;
  #group: { readonly rtp: Datagrams; readonly rtcp: Datagrams; readonly to: Endpoint } | undefined;
  #inputs: Datagrams[] = [];
  #output: Datagrams | undefined;
  #closed = false;

  constructor(options: StreamBridgeOptions) {
    this.#options = options;
    const { stream, output, onRtp } = options;
    stream.onRtp = (packet, ssrc) => {
      onRtp?.(packet, ssrc);
      if (output !== undefined) this.#output?.send(packet, output);
    };
    stream.onRtcp = (packet) => {
      if (output !== undefined) this.#output?.send(packet, { host: output.host, port: output.port + 1 });
    };
  }

  get input(): Endpoint | undefined {
    return this.#inputs[0]?.local;
  }

  async follow(): Promise<void> {
    const { stream, described, datagrams } = this.#options;
    const to = stream.destination === undefined ? described : parseAddress(stream.destination);
    if (to === undefined || (this.#group?.to.host === to.host && this.#group.to.port === to.port)) return;
    const rtp = await this.#join(to);
    let rtcp: Datagrams;
    try {
      rtcp = await this.#join({ host: to.host, port: to.port + 1 });
    } catch (error) {
      rtp.close();
      throw error;
    }
    this.#closeGroup();
    if (this.#closed) {
      rtp.close();
      rtcp.close();
      return;
    }
    rtp.onDatagram = (packet) => stream.receive(packet);
    rtcp.onDatagram = (packet) => stream.receive(packet);
    this.#group = { rtp, rtcp, to };
    if (this.#options.output !== undefined)
      this.#output ??= await datagrams.bind({ host: this.#options.output.host.includes(":") ? "::" : "0.0.0.0", port: 0 });
  }

  async listen(): Promise<void> {
    const { input, datagrams } = this.#options;
    if (input === undefined) return;
    const rtp = await datagrams.bind(input);
    this.#inputs.push(rtp);
    rtp.onDatagram = (packet) => void this.send(packet);
    const rtcp = await datagrams.bind({ host: input.host, port: rtp.local.port + 1 });
    this.#inputs.push(rtcp);
    rtcp.onDatagram = (packet) => void this.sendRtcp(packet);
  }

  send(packet: Uint8Array): boolean {
    const group = this.#group;
    const sealed = group === undefined ? undefined : this.#options.stream.protect(packet);
    if (group === undefined || sealed === undefined) return false;
    group.rtp.send(sealed, group.to);
    return true;
  }

  sendRtcp(packet: Uint8Array): boolean {
    const group = this.#group;
    const sealed = group === undefined ? undefined : this.#options.stream.protectRtcp(packet);
    if (group === undefined || sealed === undefined) return false;
    group.rtcp.send(sealed, { host: group.to.host, port: group.to.port + 1 });
    return true;
  }

  close(): void {
    this.#closed = true;
    this.#closeGroup();
    for (const socket of this.#inputs) socket.close();
    this.#inputs = [];
    this.#output?.close();
    this.#output = undefined;
    this.#options.stream.onRtp = undefined;
    this.#options.stream.onRtcp = undefined;
  }

  #join(to: Endpoint): Promise<Datagrams> {
    const { datagrams, interface: device, described } = this.#options;
    if (!isMulticast(to.host)) return datagrams.bind(to);
    const ttl = described?.host === to.host ? described.ttl : undefined;
    return datagrams.bindMulticast({
      group: to.host,
      port: to.port,
      ...(device === undefined ? {} : { interface: device }),
      ...(ttl === undefined ? {} : { ttl }),
    });
  }

  #closeGroup(): void {
    this.#group?.rtp.close();
    this.#group?.rtcp.close();
    this.#group = undefined;
  }
}
