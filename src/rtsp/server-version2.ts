import { parseSession } from "./headers.js";
import { header, RTSP_VERSION_2, type RtspRequest, type RtspResponse, sequenceNumber } from "./message.js";
import { RtspRefusal } from "./refusal.js";
import type { ServerCore } from "./server.js";
import type { ServerConnection } from "./server-connection.js";
import type { ServerSession } from "./server-session.js";
import { NOT_IN_VERSION_2, requestFromVersion2, responseToVersion2 } from "./version2.js";

/** Names that Pipelined-Requests may bind on one connection. */
const MAX_PIPELINES = 32;

/** Answers a request of RTSP 2.0 (RFC 7826). */
export async function answerVersion2(
  core: ServerCore,
  connection: ServerConnection,
  request: RtspRequest,
): Promise<{ readonly response: RtspResponse; readonly after?: () => void }> {
  connection.version = RTSP_VERSION_2;
  const { remote, local } = connection.stream.channel;
  const pipeline = header(request, "Session") === undefined ? header(request, "Pipelined-Requests") : undefined;
  let asked: RtspRequest;
  try {
    checkSequence(connection, request);
    if (NOT_IN_VERSION_2.includes(request.method)) throw new RtspRefusal(501);
    asked = requestFromVersion2(request, remote.host);
  } catch (error) {
    return { response: core.refuse(request, error) };
  }
  const bound = pipeline === undefined ? undefined : boundSession(core, connection, pipeline);
  if (bound !== undefined) asked = { ...asked, headers: [...asked.headers, ["Session", bound]] };
  const { response, after } = await core.answer(connection, asked);
  const value = header(response, "Session");
  const id = value === undefined ? undefined : parseSession(value).id;
  if (pipeline !== undefined && bound === undefined && id !== undefined) bind(core, connection, pipeline, id);
  const session = id === undefined ? undefined : core.session(id);
  const told = responseToVersion2(request, response, {
    position: core.position,
    remoteHost: remote.host,
    localHost: local.host,
    session: bound,
    ssrcOf: (uri) => session?.tracks.find((track) => track.uri === uri)?.track.ssrc,
  });
  return after === undefined ? { response: told } : { response: told, after };
}

/** RFC 7826 §13.5.1: tells who plays in RTSP 2.0 that nothing more will come. What the client says to it is not waited for. */
export function tellEnd(core: ServerCore, session: ServerSession, connection: ServerConnection): void {
  if (connection.version !== RTSP_VERSION_2 || session.state !== "playing") return;
  connection
    .request("PLAY_NOTIFY", session.facts.uri, [
      ["Session", session.facts.id],
      ["Notify-Reason", "end-of-stream"],
      ["Range", `npt=-${core.position.toFixed(2)}`],
    ])
    .catch((error: unknown) =>
      core.logger.debug("end of stream not acknowledged", { session: session.facts.id, error: String(error) }),
    );
}

/** RFC 7826 §18.20: numbers rise; on a connection that keeps order, one that does not is a request sent twice. @throws RtspRefusal 400 */
function checkSequence(connection: ServerConnection, request: RtspRequest): void {
  const sequence = sequenceNumber(request);
  if (sequence === undefined || sequence <= (connection.lastSequence ?? -1)) throw new RtspRefusal(400);
  connection.lastSequence = sequence;
}

/** RFC 7826 §18.33: a name is bound until its session ends. */
function boundSession(core: ServerCore, { pipelines }: ServerConnection, pipeline: string): string | undefined {
  const id = pipelines.get(pipeline);
  if (id !== undefined && core.session(id) === undefined) pipelines.delete(pipeline);
  return pipelines.get(pipeline);
}

function bind(core: ServerCore, { pipelines }: ServerConnection, pipeline: string, id: string): void {
  for (const [name, session] of pipelines) if (core.session(session) === undefined) pipelines.delete(name);
  if (pipelines.size < MAX_PIPELINES && core.session(id) !== undefined) pipelines.set(pipeline, id);
}
