// What the publisher and the subscriber have in common: flags and a client.

import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import mqtt from 'mqtt'

const protocols = {
  '3.1': { protocolId: 'MQIsdp', protocolVersion: 3 },
  '3.1.1': { protocolId: 'MQTT', protocolVersion: 4 },
  '5.0': { protocolId: 'MQTT', protocolVersion: 5 }
}

export const { values: args } = parseArgs({
  options: {
    host: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string', default: '1883' },
    path: { type: 'string' },
    ca: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
    transport: { type: 'string', default: 'tcp' },
    protocol: { type: 'string', default: '3.1.1' },
    id: { type: 'string' },
    topic: { type: 'string' },
    qos: { type: 'string', default: '0' },
    retain: { type: 'boolean', default: false },
    'will-topic': { type: 'string' },
    'will-payload': { type: 'string', default: '' },
    'will-qos': { type: 'string', default: '0' }
  }
})

export function connect() {
  const at = `${args.host}:${args.port}`
  const url = {
    tcp: `mqtt://${at}`,
    tls: `mqtts://${at}`,
    mtls: `mqtts://${at}`,
    ws: `ws://${at}/mqtt`,
    wss: `wss://${at}/mqtt`,
    unix: `mqtt+unix://${args.path}`
  }[args.transport]
  const options = { ...protocols[args.protocol], reconnectPeriod: 200 }
  for (const name of ['ca', 'cert', 'key']) {
    if (args[name]) {
      options[name] = readFileSync(args[name])
    }
  }
  if (args.id) {
    options.clientId = args.id
  }
  if (args['will-topic']) {
    options.will = {
      topic: args['will-topic'],
      payload: Buffer.from(args['will-payload']),
      qos: Number(args['will-qos'])
    }
  }
  const client = mqtt.connect(url, options)
  client.on('error', (err) => console.error(String(err)))
  return client
}
