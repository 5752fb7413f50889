"""Subscribe, and print each message as a line of JSON."""

import json
import sys

from connection import flags, new_client

args = flags(__doc__).parse_args()


def on_connect(client, userdata, connack_flags, reason, properties=None):
    if reason != 0:
        sys.exit(f"refused: {reason}")
    client.subscribe(args.topic, qos=args.qos)


def on_subscribe(client, userdata, packet_id, granted, properties=None):
    print("SUBSCRIBED", flush=True)


def on_message(client, userdata, message):
    print(
        json.dumps(
            {
                "topic": message.topic,
                "payload": message.payload.decode(),
                "qos": message.qos,
                "retain": bool(message.retain),
            }
        ),
        flush=True,
    )


client = new_client(args)
client.on_connect = on_connect
client.on_subscribe = on_subscribe
client.on_message = on_message
client.connect(args.host, args.port)
client.loop_forever()
