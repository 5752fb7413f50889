"""What the publisher and the subscriber have in common: flags and a client."""

import argparse

import paho.mqtt.client as mqtt

PROTOCOLS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}
TRANSPORTS = {"tcp": "tcp", "tls": "tcp", "mtls": "tcp", "ws": "websockets", "wss": "websockets"}


def flags(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--transport", choices=TRANSPORTS, default="tcp")
    parser.add_argument("--ca", help="file with the certificate to trust")
    parser.add_argument("--cert", help="file with the certificate of the client")
    parser.add_argument("--key", help="file with its key")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="3.1.1")
    parser.add_argument("--id", default="")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--qos", type=int, default=0)
    parser.add_argument("--will-topic")
    parser.add_argument("--will-payload", default="")
    parser.add_argument("--will-qos", type=int, default=0)
    return parser


def new_client(args):
    client = mqtt.Client(
        client_id=args.id,
        protocol=PROTOCOLS[args.protocol],
        transport=TRANSPORTS[args.transport],
    )
    if args.ca:
        client.tls_set(ca_certs=args.ca, certfile=args.cert, keyfile=args.key)
    if args.will_topic:
        client.will_set(args.will_topic, args.will_payload, qos=args.will_qos)
    return client
