// Visit a page with Chromium, and do there what comes on standard input, line by
// line. Each order is answered with one line, when it has been carried out.

import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

const [executablePath, url] = process.argv.slice(2)
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
const page = await browser.newPage({ viewport: { width: 1100, height: 800 } })
page.setDefaultTimeout(45_000)

const errors = []
page.on('pageerror', (err) => errors.push(String(err)))
page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
await page.goto(url)

const message = (topic, part) => page.locator('#messages li', { has: page.getByText(topic, { exact: true }) }).locator('.' + part).first()

const orders = {
  status: async (state) => page.locator(`#status[data-state="${state}"]`).textContent(),
  payload: async (topic) => message(topic, 'payload').textContent(),
  facts: async (topic) => message(topic, 'facts').textContent(),
  count: async (topic) => page.locator('#messages .topic').getByText(topic, { exact: true }).count(),
  hint: async () => {
    await page.locator('#missing').waitFor({ state: 'visible' })
    await page.locator('#client').waitFor({ state: 'hidden' })
    return page.locator('#command').textContent()
  },
  publish: async (topic, qos, payload) => {
    await page.getByLabel('Topic').fill(topic)
    await page.getByLabel('QoS').selectOption(qos)
    await page.getByLabel('Message').fill(payload)
    await page.getByRole('button', { name: 'Publish' }).click()
    const outcome = page.locator('#outcome', { hasText: topic })
    await outcome.waitFor()
    return outcome.textContent()
  },
  follow: async (filter) => {
    await page.getByLabel('Filter').fill(filter)
    await page.getByRole('button', { name: 'Follow' }).click()
    const status = page.locator('#status', { hasText: filter })
    await status.waitFor()
    return status.textContent()
  },
  errors: async () => JSON.stringify(errors),
  screenshot: async (path) => page.screenshot({ path, fullPage: true }).then(() => path)
}

for await (const line of createInterface({ input: process.stdin })) {
  const [order, ...args] = line.split(' ')
  console.log(String(await orders[order](...args)))
}
await browser.close()
