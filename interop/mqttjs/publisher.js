// Publish what is read from standard input as one message.

import { readFileSync } from 'node:fs'
import { args, connect } from './connection.js'

const client = connect()
await client.publishAsync(args.topic, readFileSync(0), { qos: Number(args.qos), retain: args.retain })
await client.endAsync()
