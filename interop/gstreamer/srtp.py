#!/usr/bin/python3
"""Protects or opens packets with GStreamer's srtpenc and srtpdec, without a network.

Reads one job as JSON from the file that is its argument and prints the result as JSON:
  job     { direction: "protect" | "unprotect", suite, key, mki?, key2?, mki2?, ssrc, roc?, rtp: [hex], rtcp: [hex] }
  result  { rtp: [hex], rtcp: [hex], errors: [text] }
`key` is the master key followed by the master salt. Packets that srtpdec refuses are absent from its result.
"""
import json
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import Gst, GstApp  # noqa: E402,F401

SUITES = {
    "AES_CM_128_HMAC_SHA1_80": ("aes-128-icm", "hmac-sha1-80"),
    "AES_CM_128_HMAC_SHA1_32": ("aes-128-icm", "hmac-sha1-32"),
    "AES_256_CM_HMAC_SHA1_80": ("aes-256-icm", "hmac-sha1-80"),
    "AES_256_CM_HMAC_SHA1_32": ("aes-256-icm", "hmac-sha1-32"),
    "AEAD_AES_128_GCM": ("aes-128-gcm", "null"),
    "AEAD_AES_256_GCM": ("aes-256-gcm", "null"),
}
LIMIT = 20 * Gst.SECOND


def octets(text):
    return Gst.Buffer.new_wrapped(bytes.fromhex(text))


def make_encrypter(job):
    cipher, authentication = SUITES[job["suite"]]
    element = Gst.ElementFactory.make("srtpenc", None)
    for kind in ("rtp", "rtcp"):
        element.set_property(f"{kind}-cipher", cipher)
        element.set_property(f"{kind}-auth", authentication)
    element.set_property("key", octets(job["key"]))
    if "mki" in job:
        element.set_property("mki", octets(job["mki"]))
    return element


def decrypter_caps(job, kind):
    cipher, authentication = SUITES[job["suite"]]
    fields = [
        f"application/x-s{kind}",
        "media=(string)audio,clock-rate=(int)8000,encoding-name=(string)PCMU,payload=(int)0",
        f"ssrc=(uint){job['ssrc']},roc=(uint){job.get('roc', 0)}",
        f"srtp-key=(buffer){job['key']}",
        f"srtp-cipher=(string){cipher},srtp-auth=(string){authentication}",
        f"srtcp-cipher=(string){cipher},srtcp-auth=(string){authentication}",
    ]
    if "mki" in job:
        fields.append(f"mki=(buffer){job['mki']}")
    if "mki2" in job:
        fields.append(f"srtp-key2=(buffer){job['key2']},mki2=(buffer){job['mki2']}")
    return ",".join(fields)


def plain_caps(job, kind):
    if kind == "rtcp":
        return "application/x-rtcp"
    return f"application/x-rtp,media=(string)audio,clock-rate=(int)8000,encoding-name=(string)PCMU,payload=(int)0,ssrc=(uint){job['ssrc']}"


def transform(job):
    protect = job["direction"] == "protect"
    pipeline = Gst.Pipeline.new(None)
    element = make_encrypter(job) if protect else Gst.ElementFactory.make("srtpdec", None)
    pipeline.add(element)
    pads = {"rtp": ("rtp_sink_0", "rtp_src_0"), "rtcp": ("rtcp_sink_0", "rtcp_src_0")}
    if not protect:
        pads = {"rtp": ("rtp_sink", "rtp_src"), "rtcp": ("rtcp_sink", "rtcp_src")}
    ends = {}
    for kind, (sink_name, source_name) in pads.items():
        source = Gst.ElementFactory.make("appsrc", None)
        caps = plain_caps(job, kind) if protect else decrypter_caps(job, kind)
        source.set_property("caps", Gst.Caps.from_string(caps))
        source.set_property("format", Gst.Format.TIME)
        source.set_property("max-bytes", 0)
        sink = Gst.ElementFactory.make("appsink", None)
        sink.set_property("sync", False)
        sink.set_property("async", False)
        pipeline.add(source)
        pipeline.add(sink)
        entry = element.request_pad_simple(sink_name) if protect else element.get_static_pad(sink_name)
        source.get_static_pad("src").link(entry)
        element.get_static_pad(source_name).link(sink.get_static_pad("sink"))
        # One at a time: srtpdec crashes now and then when keys for both reach it at once.
        source.set_locked_state(True)
        ends[kind] = (source, sink)
    pipeline.set_state(Gst.State.PLAYING)
    result = {"rtp": [], "rtcp": [], "errors": []}
    for kind, (source, sink) in ends.items():
        source.set_locked_state(False)
        source.sync_state_with_parent()
        for packet in job[kind]:
            source.emit("push-buffer", octets(packet))
        source.emit("end-of-stream")
        while True:
            sample = sink.emit("try-pull-sample", LIMIT)
            if sample is None:
                break
            buffer = sample.get_buffer()
            result[kind].append(buffer.extract_dup(0, buffer.get_size()).hex())
    while True:
        message = pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
        if message is None:
            break
        error, debug = message.parse_error()
        result["errors"].append(f"{error.message} ({debug})")
    for source, _sink in ends.values():
        source.set_locked_state(False)
    pipeline.set_state(Gst.State.NULL)
    return result


if __name__ == "__main__":
    Gst.init(None)
    with open(sys.argv[1], encoding="ascii") as file:
        print(json.dumps(transform(json.load(file))), flush=True)
