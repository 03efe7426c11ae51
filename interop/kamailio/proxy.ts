import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeSelfSigned } from "../../test/node/self-signed.js";
import { type Finishing, type RunningProcess, startProcess } from "../process.js";

/** The domain that it serves. */
export const DOMAIN = "interop.test";
/** The password of every user. */
export const PASSWORD = "correct horse";

export interface Kamailio {
  readonly port: { readonly sip: number; readonly tls: number; readonly ws: number };
  /** PEM certificate of its TLS listener. */
  readonly certificate: string;
  /** What it logged. */
  readonly log: () => string;
}

/** A registrar and proxy on loopback: digest for REGISTER (401) and INVITE (407), Record-Route, WebSocket, UDP, TCP and TLS. */
export async function startKamailio(test: Finishing): Promise<Kamailio> {
  const folder = mkdtempSync(join(tmpdir(), "watchword-kamailio-"));
  test.onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const [sip, tls, ws] = await freePorts(3);
  const { cert, key } = makeSelfSigned();
  writeFileSync(join(folder, "cert.pem"), cert);
  writeFileSync(join(folder, "key.pem"), key);
  const file = join(folder, "kamailio.cfg");
  writeFileSync(file, configuration({ sip: sip as number, tls: tls as number, ws: ws as number }, folder));
  const server = startProcess(test, "kamailio", ["-DD", "-E", "-f", file, "-Y", folder, "-m", "48", "-M", "8"], { limit: 170_000 });
  await reachable(server, ws as number);
  return { port: { sip: sip as number, tls: tls as number, ws: ws as number }, certificate: cert, log: () => server.stderr };
}

/** Ports that were free for TCP a moment ago. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve) => {
          const server = createServer();
          server.listen(0, "127.0.0.1", () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

async function reachable(server: RunningProcess, port: number): Promise<void> {
  let ended = false;
  void server.ended.then(() => {
    ended = true;
  });
  for (;;) {
    if (ended) throw new Error(`kamailio ended:\n${server.stderr.slice(-4000)}`);
    const response = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
    if (response?.status === 404) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function configuration(port: Kamailio["port"], folder: string): string {
  return `#!KAMAILIO
debug=1
log_stderror=yes
children=1
tcp_children=2
auto_aliases=no
disable_core_dump=yes
listen=udp:127.0.0.1:${port.sip}
listen=tcp:127.0.0.1:${port.sip}
listen=tcp:127.0.0.1:${port.ws}
enable_tls=yes
listen=tls:127.0.0.1:${port.tls}
alias="${DOMAIN}"
tcp_connection_lifetime=3600
tcp_accept_no_cl=yes
tcp_rd_buf_size=65535

loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "nathelper.so"
loadmodule "auth.so"
loadmodule "xhttp.so"
loadmodule "websocket.so"
loadmodule "tls.so"

modparam("usrloc", "db_mode", 0)
modparam("registrar", "method_filtering", 0)
modparam("nathelper|registrar", "received_avp", "$avp(RECEIVED)")
modparam("rr", "enable_double_rr", 1)
modparam("tls", "certificate", "${join(folder, "cert.pem")}")
modparam("tls", "private_key", "${join(folder, "key.pem")}")
modparam("tls", "tls_method", "TLSv1.2+")

request_route {
  if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
  if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
  force_rport();
  # Whoever does not listen is reached by the connection that it came by.
  if (nat_uac_test("64") || proto == TLS) {
    if (is_method("REGISTER")) fix_nated_register(); else add_contact_alias();
  }
  if (has_totag()) {
    if (loose_route()) { handle_ruri_alias(); t_on_reply("ALIAS"); if (!t_relay()) sl_reply_error(); exit; }
    if (is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
    sl_send_reply("404", "Not here"); exit;
  }
  t_check_trans();
  remove_hf("Route");
  if (is_method("REGISTER")) {
    if (!pv_www_authenticate("${DOMAIN}", "${PASSWORD}", "0")) { www_challenge("${DOMAIN}", "0"); exit; }
    consume_credentials();
    if (!save("location")) sl_reply_error();
    exit;
  }
  if (is_method("INVITE")) {
    if (!pv_proxy_authenticate("${DOMAIN}", "${PASSWORD}", "0")) { proxy_challenge("${DOMAIN}", "0"); exit; }
    consume_credentials();
    record_route();
  }
  if (!lookup("location")) { sl_send_reply("404", "Not found"); exit; }
  t_on_reply("ALIAS");
  if (!t_relay()) sl_reply_error();
  exit;
}
onreply_route[ALIAS] { if (nat_uac_test("64") || proto == TLS) add_contact_alias(); }
event_route[xhttp:request] {
  set_reply_close();
  set_reply_no_connect();
  if ($hdr(Upgrade) =~ "websocket" && $hdr(Connection) =~ "Upgrade" && $rm =~ "GET") {
    if (ws_handle_handshake()) exit;
  }
  xhttp_reply("404", "Not Found", "", "");
}
`;
}
