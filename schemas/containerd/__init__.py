"""What containerd and a kubelet speak, as far as this project speaks it: the wire format, in our own words.

Only messages and fields that are used here are declared; protobuf keeps the rest as unknown fields. Package and
service names are the peers', because they travel: in gRPC paths, TTRPC requests and the type URLs of `Any`.

Zone: host. May import: google.protobuf. Generated code only (`just schemas`).
"""
