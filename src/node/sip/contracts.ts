import type { WatchwordError } from "../../bytes/index.js";
import type { OfferTerms } from "../../gsa/index.js";
import type { DatagramsFactory, Endpoint } from "../../io/index.js";
import type { SipKeying } from "../../sip/index.js";
import type { CallMedia, SipCall } from "./call.js";
import type { RegistrationEvent } from "./registration.js";
import type { SipTransportOptions, SipTransportStatistics } from "./transport.js";

/** What a user agent needs. */
export interface SipUserAgentOptions {
  /** Who we are: `sip:alice@example.org`. Port 0 stands for the one that the transport binds: a party that is called directly. */
  readonly address: string;
  readonly transport: SipTransportOptions;
  /** URIs that requests go through first (RFC 3261 §8.1.2), for instance `sip:proxy.example.org;transport=tcp;lr`. */
  readonly route?: readonly string[];
  /** For digest authentication (RFC 3261 §22) by registrars and proxies. */
  readonly credentials?: { readonly user: string; readonly password: string };
  /** How calls are keyed: `createSipKeying` of `watchword/sip`, given our address once its port is known. */
  readonly keying: (address: string) => SipKeying;
  /** Address of the media in descriptions. Default: the transport's; needed for WebSocket. */
  readonly mediaHost?: string;
  readonly datagrams?: DatagramsFactory;
  /**
   * Milliseconds without media or reports from a party that is to send, after which a call is hung up: a party that has gone does not say
   * so. 0 for never. Default 60 000.
   */
  readonly mediaTimeout?: number;
  /** A call comes in; not set: every call is refused with 486. */
  readonly onCall?: (call: IncomingCall) => void;
  /** The first keys of a call, and every new ones. */
  readonly onKeyed?: (call: SipCall) => void;
  /** A call was refused and is placed once more, on other terms: without HELLO (docs/protocol.md §8), or under a policy that was named. */
  readonly onRetry?: (target: string, refusal: WatchwordError, terms: OfferTerms) => void;
  /** A registration was lost, and is tried again by itself; or it stands again. */
  readonly onRegistration?: (event: RegistrationEvent) => void;
  /** The connection to the proxy or server was lost. */
  readonly onDisconnect?: (error: Error) => void;
  /** A sink that failed; the call goes on. */
  readonly onMediaError?: (error: unknown) => void;
  /** What sip.js logs as a warning or an error. */
  readonly onWarning?: (text: string) => void;
}

/** A call that rings. */
export interface IncomingCall {
  /** URI of the caller, as it says. */
  readonly from: string;
  /**
   * Answers it.
   * @throws (rejects) SipRefusal where the offer was not acceptable; WatchwordError `node.sip-call` where the caller gave up
   */
  accept(media: CallMedia): Promise<SipCall>;
  /** Refuses it with a final response, 300 to 699. */
  reject(status: number): Promise<void>;
}

/** How a call is placed. */
export interface PlaceOptions extends CallMedia {
  /** The other party makes the offer, we answer in ACK (RFC 3261 §13.2.1). Default false. */
  readonly lateOffer?: boolean;
  /** Milliseconds that it may ring. Default 60 000. */
  readonly ringTime?: number;
}

/** A small telephone. */
export interface SipUserAgent {
  /** Where peers reach us; undefined over WebSocket. */
  readonly address: Endpoint | undefined;
  /** Whom to call: where we listen, or, over WebSocket or with a route, our address. */
  readonly uri: string;
  readonly calls: readonly SipCall[];
  readonly transport: SipTransportStatistics;
  /** Registers, and stays registered: what is lost later is tried again (`onRegistration`). @throws (rejects) WatchwordError `node.sip-status-…`, `node.sip-register` */
  register(): Promise<void>;
  /**
   * Places a call; resolves when it stands and its keys are in force.
   * @throws (rejects) WatchwordError `node.sip-status-…`, `node.sip-address`, `node.sip-call`; SipRefusal where the answer was not acceptable
   */
  call(target: string, options?: PlaceOptions): Promise<SipCall>;
  /** Hangs up, unregisters, closes every socket. */
  close(): Promise<void>;
}
