// The page is a client of the broker that serves it. What arrives is shown as
// text, never as HTML.

'use strict'

const most = 200 // messages on the page
const shown = 4000 // characters of a message

const byId = (id) => document.getElementById(id)
const messages = byId('messages')

if (typeof mqtt === 'undefined') {
  state('missing', 'MQTT.js is missing')
  byId('missing').hidden = false
} else {
  byId('client').hidden = false
  start()
}

function state(name, text) {
  byId('status').dataset.state = name
  byId('status').textContent = text
}

function start() {
  const url = location.protocol.replace('http', 'ws') + '//' + location.host + '/mqtt'
  const client = mqtt.connect(url, {
    protocolVersion: 5,
    reconnectPeriod: 1000,
    resubscribe: false, // follow does that
    timerVariant: 'native' // the others need a worker that the policy of the page forbids
  })
  let filter = byId('follow').elements.filter.value

  state('connecting', 'connecting')
  client.on('connect', () => follow())
  client.on('close', () => state('offline', 'offline, trying again'))
  client.on('message', (topic, payload, packet) => show(topic, payload, packet))

  async function follow() {
    try {
      await client.subscribeAsync(filter, { qos: 2 })
      state('connected', 'connected, following ' + filter)
    } catch (err) {
      state('offline', 'cannot follow ' + filter + ': ' + err.message)
    }
  }

  byId('follow').addEventListener('submit', async (event) => {
    event.preventDefault()
    const before = filter
    filter = event.target.elements.filter.value
    if (!client.connected) {
      return // it is followed when the connection is back
    }
    if (before !== filter) {
      await client.unsubscribeAsync(before)
    }
    await follow()
  })

  byId('publish').addEventListener('submit', async (event) => {
    event.preventDefault()
    const { topic, payload, qos, retain } = event.target.elements
    try {
      await client.publishAsync(topic.value, payload.value, { qos: Number(qos.value), retain: retain.checked })
      outcome('Published to ' + topic.value, false)
    } catch (err) {
      outcome('Not published: ' + err.message, true)
    }
  })

  byId('clear').addEventListener('click', () => {
    messages.replaceChildren()
    byId('empty').hidden = false
  })
}

function outcome(text, failed) {
  byId('outcome').textContent = text
  byId('outcome').classList.toggle('failed', failed)
}

// show puts a message on top of the others.
function show(topic, payload, packet) {
  const facts = [new Date().toLocaleTimeString(), 'QoS ' + packet.qos]
  if (packet.retain) {
    facts.push('retained')
  }
  const item = document.createElement('li')
  item.append(piece('topic', topic), piece('facts', facts.join(' · ')), piece('payload', text(payload)))
  messages.prepend(item)
  while (messages.childElementCount > most) {
    messages.lastElementChild.remove()
  }
  byId('empty').hidden = true
}

function piece(name, content) {
  const span = document.createElement('span')
  span.className = name
  span.textContent = content
  return span
}

// text is a payload for people: its bytes if it is no text.
function text(payload) {
  let s
  try {
    s = new TextDecoder('utf-8', { fatal: true }).decode(payload)
  } catch {
    s = Array.from(payload.subarray(0, shown), (b) => b.toString(16).padStart(2, '0')).join(' ')
  }
  return s.length > shown ? s.slice(0, shown) + '…' : s
}
