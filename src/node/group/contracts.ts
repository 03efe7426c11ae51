import type { AuditEvent, Gcks, GcksOptions, GroupDefinition } from "../../gcks/index.js";
import type { Endpoint, Logger } from "../../io/index.js";
import type { Store } from "../../store/index.js";
import type { ListenerTls } from "../streams.js";

/** How a listener finds out who registers, beneath MIKEY's own proof. */
export interface CarrierAuthentication {
  /** Asks by Digest: the password of a user. By SIP with MD5, which is what sip.js has. */
  readonly password?: (user: string) => string | undefined;
}

/** Where members register by SIP. `udp` takes TCP on the same port, and sends registrations there (docs/protocol.md §23.2). */
export interface SipListenerOptions extends CarrierAuthentication {
  readonly transport: "udp" | "tcp" | "tls" | "ws";
  /** Port 0 picks a free one. */
  readonly local: Endpoint;
  /** The host that members reach us by, where it is not the one we listen on. */
  readonly publicHost?: string;
  /** Needed for `tls`, which may ask for certificates of clients; with a certificate `ws` is WSS. */
  readonly tls?: ListenerTls;
}

/** Where members register by RTSP, or RTSPS with `tls`. */
export interface RtspListenerOptions extends CarrierAuthentication {
  readonly local: Endpoint;
  readonly tls?: ListenerTls;
}

/** How rekey messages leave. */
export interface ControlOptions {
  /** UDP socket for reports and for members that are reached by unicast: the rekey server address. Port 2269 is MIKEY's. */
  readonly local?: Endpoint;
  /** Name or address of the network interface that multicast leaves by. Default: the system's choice. */
  readonly interface?: string;
  /** Hops of multicast. Default 1. */
  readonly ttl?: number;
}

/** The administration over HTTP; for loopback, or behind a proxy with TLS. */
export interface AdminOptions {
  readonly local: Endpoint;
  /** What `Authorization: Bearer` has to be. At least 16 characters. */
  readonly token: string;
}

/** A key server and where it listens. Clock, timers, randomness and sockets are Node's. */
export interface GcksServiceOptions
  extends Pick<
    GcksOptions,
    | "findCredential"
    | "keyPairs"
    | "policy"
    | "signer"
    | "credentials"
    | "issuers"
    | "certificates"
    | "authorise"
    | "outside"
    | "mostRegistrations"
    | "skewMs"
  > {
  /** URI of the key server in ID payloads: `sip:gcks@example.org`. */
  readonly identity: string;
  readonly groups: readonly GroupDefinition[];
  /** Stays the caller's. */
  readonly store: Store;
  readonly sip?: readonly SipListenerOptions[];
  readonly rtsp?: readonly RtspListenerOptions[];
  readonly control?: ControlOptions;
  readonly admin?: AdminOptions;
  readonly logger?: Logger;
  readonly audit?: (event: AuditEvent) => void;
}

/** A key server at work. */
export interface GcksService {
  readonly gcks: Gcks;
  /** Where each SIP listener is reached: `sip:127.0.0.1:5060;transport=udp`. A group's URI has its name before an @. */
  readonly sip: readonly string[];
  /** `rtsp://127.0.0.1:8554`, to which a group's path is added. */
  readonly rtsp: readonly string[];
  /** `http://127.0.0.1:8270`. */
  readonly admin: string | undefined;
  /** Where reports come in by UDP. */
  readonly control: Endpoint | undefined;
  /** URIs by which a group is joined. */
  urisOf(group: string): readonly string[];
  /** Stops without a word to members: what is durable goes on at the next start. */
  close(): Promise<void>;
}
