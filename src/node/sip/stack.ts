import { type SessionDescriptionHandlerFactory, UserAgent, type UserAgentDelegate } from "sip.js";
import { WatchwordError } from "../../bytes/index.js";
import type { Endpoint } from "../../io/index.js";
import { SipTransport, type SipTransportOptions } from "./transport.js";

/** What a sip.js user agent on our transport is made of. */
export interface SipStackOptions {
  /** Who we are. Port 0 stands for the one that the transport binds. */
  readonly address: string;
  readonly transport: SipTransportOptions;
  /** What Contact says of the transport. Default: the transport's own. */
  readonly contactTransport?: "tcp";
  /** Answers for every user of our host, not for that of `address` alone. Default false. */
  readonly everyUser?: boolean;
  readonly route?: readonly string[];
  readonly credentials?: { readonly user: string; readonly password: string };
  readonly sessionDescriptionHandlerFactory: SessionDescriptionHandlerFactory;
  readonly delegate?: UserAgentDelegate;
  readonly onWarning?: (text: string) => void;
}

/** A user agent that knows where it is reached once it has started. @throws WatchwordError `node.sip-address` */
export function createSipStack(options: SipStackOptions): { readonly userAgent: UserAgent; readonly transport: SipTransport } {
  const { credentials, route = [], delegate } = options;
  const userAgent: UserAgent = new UserAgent({
    uri: addressOf(options.address),
    transportConstructor: SipTransport,
    transportOptions: {
      ...options.transport,
      onBound: (endpoint: Endpoint) => {
        const { uri } = userAgent.contact;
        uri.host = endpoint.host.includes(":") ? `[${endpoint.host}]` : endpoint.host;
        uri.port = endpoint.port;
        const own = userAgent.configuration.uri;
        if (own.port === 0) own.port = endpoint.port;
        options.transport.onBound?.(endpoint);
      },
    },
    contactParams: { transport: options.contactTransport ?? options.transport.transport },
    preloadedRouteSet: route.map((uri) => `<${uri}>`),
    authorizationUsername: credentials?.user ?? "",
    authorizationPassword: credentials?.password ?? "",
    sessionDescriptionHandlerFactory: options.sessionDescriptionHandlerFactory,
    ...(delegate === undefined ? {} : { delegate }),
    // The signal handlers of a browser page; a program closes its user agent itself.
    gracefulShutdown: false,
    noAnswerTimeout: 180,
    userAgentString: "watchword",
    logBuiltinEnabled: false,
    logConfiguration: false,
    logLevel: "warn",
    logConnector: (level, _category, _label, content) => {
      if (level === "warn" || level === "error") options.onWarning?.(content);
    },
  });
  if (options.everyUser === true) answerForEveryUser(userAgent);
  return { userAgent, transport: userAgent.transport as SipTransport };
}

/** sip.js answers 404 for users that are neither in its address nor in its contact: the one that is asked for becomes its temporary GRUU. */
function answerForEveryUser({ userAgentCore, contact }: UserAgent): void {
  const receive = userAgentCore.receiveIncomingRequestFromTransport.bind(userAgentCore);
  userAgentCore.receiveIncomingRequestFromTransport = (message) => {
    contact.tempGruu = message.ruri;
    receive(message);
  };
}

/** @throws WatchwordError `node.sip-address` */
export function addressOf(text: string) {
  const uri = /^sips?:/i.test(text) ? UserAgent.makeURI(text) : undefined;
  if (uri === undefined) throw new WatchwordError("node.sip-address", `${text} is not a SIP address such as sip:alice@example.org`);
  return uri;
}
