#!/usr/bin/python3
"""Plays an RTSP URL with rtspsrc and measures what arrives.

Every depayloaded frame is hashed in order, every decoded buffer counted. Ends after --frames frames of each expected track,
after --seconds, or on SIGTERM, always through a TEARDOWN; the last line on standard output is the report as JSON.
"""
import argparse
import base64
import hashlib
import json
import re
import signal
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
from gi.repository import GLib, Gst, GstRtsp  # noqa: E402

# Depayloader and decoder of an RTP encoding name; the decoder may be missing.
CHAINS = {
    "PCMU": ("rtppcmudepay", "mulawdec"),
    "PCMA": ("rtppcmadepay", "alawdec"),
    "H264": ("rtph264depay", "avdec_h264"),
}
TRANSPORTS = {
    "udp": GstRtsp.RTSPLowerTrans.UDP,
    "tcp": GstRtsp.RTSPLowerTrans.TCP,
    "multicast": GstRtsp.RTSPLowerTrans.UDP_MCAST,
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--transport", choices=sorted(TRANSPORTS), default="udp")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--tracks", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--latency", type=int, default=300, help="of the jitter buffer, milliseconds")
    parser.add_argument("--insecure", action="store_true", help="accept any certificate")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--interface", help="network interface to receive multicast on")
    parser.add_argument("--take-keys", action="store_true", help="take new keys while playing, and keys with an MKI, as an application can")
    parser.add_argument("--teardown-key-mgmt", help="KeyMgmt header value to add to the TEARDOWN")
    return parser.parse_args()


class Player:
    def __init__(self, options):
        self.options = options
        self.loop = GLib.MainLoop()
        self.report = {"tracks": {}, "decrypters": [], "errors": [], "warnings": [], "requests": [], "seconds": 0}
        self.decrypters = []
        self.sources = set()
        self.finished = False
        self.pipeline = Gst.Pipeline.new("player")
        self.source = Gst.ElementFactory.make("rtspsrc", "source")
        self.source.set_property("location", options.url)
        self.source.set_property("protocols", TRANSPORTS[options.transport])
        self.source.set_property("latency", options.latency)
        if options.insecure:
            self.source.set_property("tls-validation-flags", 0)
        if options.user:
            self.source.set_property("user-id", options.user)
            self.source.set_property("user-pw", options.password)
        if options.interface:
            self.source.set_property("multicast-iface", options.interface)
        self.keys = []
        if options.take_keys:
            self.report["keys"] = []
            self.source.connect("on-sdp", self.on_description)
            self.source.connect("handle-request", self.on_server_request)
        self.source.connect("pad-added", self.on_pad)
        self.source.connect("before-send", self.on_request)
        self.pipeline.connect("deep-element-added", self.on_element)
        self.pipeline.add(self.source)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message", self.on_message)

    def on_element(self, _bin, _sub_bin, element):
        factory = element.get_factory()
        if factory and factory.get_name() == "srtpdec":
            self.decrypters.append(element)
            if self.options.take_keys:
                element.connect("request-key", self.on_key_wanted)
                element.get_static_pad("rtp_sink").add_probe(Gst.PadProbeType.BUFFER, self.on_sealed_packet, element)

    def on_sealed_packet(self, _pad, info, element):
        # The caps brought a key without its MKI; srtpdec asks for a key only where it has none.
        ssrc = int.from_bytes(info.get_buffer().extract_dup(8, 4), "big")
        element.emit("remove-key", ssrc)
        self.sources.add(ssrc)
        return Gst.PadProbeReturn.REMOVE

    def on_description(self, _source, description):
        for index in range(description.medias_len()):
            self.add_key(description.get_media(index).get_attribute_val("key-mgmt").split(" ")[1])

    def on_server_request(self, _source, request, _response):
        result, value = request.get_header(GstRtsp.RTSPHeaderField.KEYMGMT, 0)
        if result != GstRtsp.RTSPResult.OK:
            return
        self.add_key(re.search('data="([^"]+)"', value)[1])
        # The next packet has srtpdec ask again, and it is given the old and the new key.
        for element in self.decrypters:
            for ssrc in self.sources:
                element.emit("remove-key", ssrc)

    def add_key(self, text):
        """Key and MKI of a NULL-keyed message: GStreamer's own reader passes the MKI over."""
        octets = base64.b64decode(text)
        kemac = octets.rfind(bytes((0x00, 0x21, 0x00, 0x1E)))
        key = octets[kemac + 4 : kemac + 34]
        length = octets[kemac + 34]
        self.keys = [*self.keys[-1:], (octets[kemac + 35 : kemac + 35 + length].hex(), key.hex())]
        self.report["keys"].append(self.keys[-1][0])

    def on_key_wanted(self, _element, ssrc):
        fields = [f"ssrc=(uint){ssrc}", "roc=(uint)0"]
        for number, (mki, key) in enumerate(reversed(self.keys)):
            suffix = "" if number == 0 else str(number + 1)
            fields += [f"mki{suffix}=(buffer){mki}", f"srtp-key{suffix}=(buffer){key}"]
        for kind in ("srtp", "srtcp"):
            fields += [f"{kind}-cipher=(string)aes-128-icm", f"{kind}-auth=(string)hmac-sha1-80"]
        return Gst.Caps.from_string(f"application/x-srtp, {', '.join(fields)}")

    def on_request(self, _source, message):
        kind = message.parse_request().method
        self.report["requests"].append(GstRtsp.rtsp_method_as_text(kind))
        if kind == GstRtsp.RTSPMethod.TEARDOWN and self.options.teardown_key_mgmt:
            message.add_header(GstRtsp.RTSPHeaderField.KEYMGMT, self.options.teardown_key_mgmt)
        return True

    def on_pad(self, _source, pad):
        caps = pad.get_current_caps() or pad.query_caps(None)
        structure = caps.get_structure(0)
        encoding = structure.get_string("encoding-name")
        track = {"caps": structure.get_name(), "encoding": encoding, "frames": [], "octets": 0, "decoded": 0}
        if structure.has_field("ssrc"):
            track["ssrc"] = structure.get_value("ssrc")
        self.report["tracks"][f"{len(self.report['tracks'])}"] = track
        chain = CHAINS.get(encoding)
        if chain is None or structure.get_name() != "application/x-rtp":
            self.report["errors"].append(f"unexpected pad {structure.to_string()}")
            self.finish()
            return
        depayloader, decoder, sink = (Gst.ElementFactory.make(name, None) for name in (*chain, "fakesink"))
        sink.set_property("sync", False)
        elements = [element for element in (depayloader, decoder, sink) if element]
        for element in elements:
            self.pipeline.add(element)
        for left, right in zip(elements, elements[1:]):
            left.link(right)
        depayloader.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, self.on_frame, track)
        sink.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, self.on_decoded, track)
        for element in reversed(elements):
            element.sync_state_with_parent()
        pad.link(depayloader.get_static_pad("sink"))

    def on_frame(self, _pad, info, track):
        buffer = info.get_buffer()
        octets = buffer.extract_dup(0, buffer.get_size())
        if len(track["frames"]) < self.options.frames:
            track["frames"].append(hashlib.sha256(octets).hexdigest())
            track["octets"] += len(octets)
        return Gst.PadProbeReturn.OK

    def on_decoded(self, _pad, _info, track):
        track["decoded"] += 1
        tracks = self.report["tracks"].values()
        if len(tracks) == self.options.tracks and all(min(t["decoded"], len(t["frames"])) >= self.options.frames for t in tracks):
            GLib.idle_add(self.finish)
        return Gst.PadProbeReturn.OK

    def on_message(self, _bus, message):
        if message.type == Gst.MessageType.ERROR:
            error, debug = message.parse_error()
            self.report["errors"].append(f"{error.message} ({debug})")
            self.finish()
        elif message.type == Gst.MessageType.WARNING:
            warning, debug = message.parse_warning()
            self.report["warnings"].append(f"{warning.message} ({debug})")
        elif message.type == Gst.MessageType.EOS:
            self.report["eos"] = True
            self.finish()

    def finish(self):
        if not self.finished:
            self.finished = True
            for element in self.decrypters:
                statistics = element.get_property("stats")
                names = [name for name in ("recv-count", "recv-drop-count") if statistics.has_field(name)]
                self.report["decrypters"].append({name: statistics.get_value(name) for name in names})
            self.loop.quit()
        return False

    def run(self):
        started = time.monotonic()
        GLib.timeout_add(int(self.options.seconds * 1000), self.finish)
        for number in (signal.SIGTERM, signal.SIGINT):
            GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, self.finish)
        self.pipeline.set_state(Gst.State.PLAYING)
        self.loop.run()
        self.pipeline.set_state(Gst.State.NULL)
        self.report["seconds"] = round(time.monotonic() - started, 2)
        print(json.dumps(self.report), flush=True)


if __name__ == "__main__":
    Gst.init(None)
    Player(arguments()).run()
