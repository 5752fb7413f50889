// Subscribe, and print each message as a line of JSON.

import { args, connect } from './connection.js'

const client = connect()

client.on('connect', async () => {
  await client.subscribeAsync(args.topic, { qos: Number(args.qos) })
  console.log('SUBSCRIBED')
})

client.on('message', (topic, payload, packet) => {
  console.log(JSON.stringify({ topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain }))
})
