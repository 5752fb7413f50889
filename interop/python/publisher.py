"""Publish what is read from standard input as one message."""

import sys

from connection import flags, new_client

parser = flags(__doc__)
parser.add_argument("--retain", action="store_true")
args = parser.parse_args()

client = new_client(args)
client.connect(args.host, args.port)
client.loop_start()
published = client.publish(args.topic, sys.stdin.buffer.read(), qos=args.qos, retain=args.retain)
published.wait_for_publish(timeout=20)
if not published.is_published():
    sys.exit("not acknowledged")
client.disconnect()
client.loop_stop()
