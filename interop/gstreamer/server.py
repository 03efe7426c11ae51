#!/usr/bin/python3
"""Serves SRTP keyed by MIKEY with gst-rtsp-server, and remembers every frame that it sent in the clear.

Prints `listening PORT` when ready. On SIGTERM, or after --seconds, the last line on standard output is the report as JSON:
the SHA-256 of each track's payloads by RTP sequence number, the requests met, and srtpdec's counts.
"""
import argparse
import hashlib
import json
import signal

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

# GStreamer's cipher and authentication names of a suite.
SUITES = {
    "AES_CM_128_HMAC_SHA1_80": ("aes-128-icm", "hmac-sha1-80"),
    "AES_CM_128_HMAC_SHA1_32": ("aes-128-icm", "hmac-sha1-32"),
    "AES_256_CM_HMAC_SHA1_80": ("aes-256-icm", "hmac-sha1-80"),
    "AEAD_AES_128_GCM": ("aes-128-gcm", "null"),
    "AEAD_AES_256_GCM": ("aes-256-gcm", "null"),
}
PROFILES = {
    "RTP/AVP": GstRtsp.RTSPProfile.AVP,
    "RTP/SAVP": GstRtsp.RTSPProfile.SAVP,
    "RTP/SAVPF": GstRtsp.RTSPProfile.SAVPF,
}
TRACKS = (
    "audiotestsrc is-live=1 wave=white-noise samplesperbuffer=160 ! audio/x-raw,rate=8000,channels=1 ! mulawenc"
    " ! rtppcmupay name=pay0 pt=0 min-ptime=20000000 max-ptime=20000000",
    "audiotestsrc is-live=1 wave=white-noise samplesperbuffer=160 ! audio/x-raw,rate=8000,channels=1 ! alawenc"
    " ! rtppcmapay name=pay1 pt=8 min-ptime=20000000 max-ptime=20000000",
)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="RTP/SAVP")
    parser.add_argument("--suite", choices=sorted(SUITES), default="AES_CM_128_HMAC_SHA1_80")
    parser.add_argument("--tracks", type=int, choices=(1, 2), default=1)
    parser.add_argument("--address", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--multicast", help="address of the group to send to")
    parser.add_argument("--interface", help="network interface to multicast on")
    parser.add_argument("--tls", help="PEM file with certificate and private key")
    parser.add_argument("--first-sequence", type=int, default=-1, help="sequence number of the first packet")
    parser.add_argument("--seconds", type=float, default=30)
    return parser.parse_args()


class Server:
    def __init__(self, options):
        self.options = options
        self.loop = GLib.MainLoop()
        self.report = {"tracks": {}, "requests": [], "decrypters": [], "closed": 0}
        self.decrypters = []
        self.server = GstRtspServer.RTSPServer()
        self.server.set_address(options.address)
        self.server.set_service("0")
        self.server.get_mount_points().add_factory("/test", self.factory())
        if options.tls:
            self.server.set_auth(self.authentication())
        self.server.connect("client-connected", self.on_client)

    def factory(self):
        factory = GstRtspServer.RTSPMediaFactory()
        chains = list(TRACKS[: self.options.tracks])
        if self.options.first_sequence >= 0:
            chains = [f"{chain} seqnum-offset={self.options.first_sequence}" for chain in chains]
        factory.set_launch(f"( {' '.join(chains)} )")
        factory.set_profiles(PROFILES[self.options.profile])
        factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP | GstRtsp.RTSPLowerTrans.TCP)
        if self.options.multicast:
            pool = GstRtspServer.RTSPAddressPool()
            pool.add_range(self.options.multicast, self.options.multicast, 5000, 5010, 1)
            factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP_MCAST)
            factory.set_address_pool(pool)
            factory.set_multicast_iface(self.options.interface)
            factory.set_shared(True)
        factory.connect("media-configure", self.on_media)
        if self.options.tls:
            permissions = "anyone, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
            factory.add_role_from_structure(Gst.Structure.new_from_string(permissions))
        return factory

    def authentication(self):
        authentication = GstRtspServer.RTSPAuth()
        authentication.set_tls_certificate(Gio.TlsCertificate.new_from_file(self.options.tls))
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "anyone")
        authentication.set_default_token(token)
        return authentication

    def on_media(self, _factory, media):
        for index in range(media.n_streams()):
            stream = media.get_stream(index)
            stream.connect("new-rtp-encoder", self.on_encrypter)
            stream.connect("new-rtp-rtcp-decoder", lambda _stream, element: self.decrypters.append(element))
            sent = self.report["tracks"].setdefault(str(index), {})
            payloader = media.get_element().get_by_name(f"pay{index}")
            kinds = Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST
            payloader.get_static_pad("src").add_probe(kinds, self.on_packet, sent)

    def on_encrypter(self, _stream, element):
        cipher, authentication = SUITES[self.options.suite]
        for kind in ("rtp", "rtcp"):
            element.set_property(f"{kind}-cipher", cipher)
            element.set_property(f"{kind}-auth", authentication)

    def on_packet(self, _pad, info, sent):
        buffers = [info.get_buffer()] if info.type & Gst.PadProbeType.BUFFER else []
        if info.type & Gst.PadProbeType.BUFFER_LIST:
            packets = info.get_buffer_list()
            buffers = [packets.get(index) for index in range(packets.length())]
        for buffer in buffers:
            packet = buffer.extract_dup(0, buffer.get_size())
            # The payloaders of this server write neither contributing sources nor extensions.
            sent[str(int.from_bytes(packet[2:4], "big"))] = hashlib.sha256(packet[12:]).hexdigest()
        return Gst.PadProbeReturn.OK

    def on_client(self, _server, client):
        for name in ("describe", "setup", "play", "pause", "teardown", "get-parameter", "set-parameter"):
            client.connect(f"{name}-request", self.on_request, name)
        client.connect("closed", self.on_closed)

    def on_request(self, _client, context, name):
        result, value = context.request.get_header(GstRtsp.RTSPHeaderField.KEYMGMT, 0)
        self.report["requests"].append({"method": name, "keyMgmt": value if result == GstRtsp.RTSPResult.OK else None})

    def on_closed(self, _client):
        self.report["closed"] += 1

    def on_tick(self):
        self.server.get_session_pool().cleanup()
        return True

    def finish(self):
        self.loop.quit()
        return False

    def run(self):
        if not self.server.attach(None):
            raise SystemExit("cannot listen")
        GLib.timeout_add_seconds(1, self.on_tick)
        GLib.timeout_add(int(self.options.seconds * 1000), self.finish)
        for number in (signal.SIGTERM, signal.SIGINT):
            GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, self.finish)
        print(f"listening {self.server.get_bound_port()}", flush=True)
        self.loop.run()
        for element in self.decrypters:
            statistics = element.get_property("stats")
            names = [name for name in ("recv-count", "recv-drop-count") if statistics.has_field(name)]
            self.report["decrypters"].append({name: statistics.get_value(name) for name in names})
        print(json.dumps(self.report), flush=True)


if __name__ == "__main__":
    Gst.init(None)
    Server(arguments()).run()
