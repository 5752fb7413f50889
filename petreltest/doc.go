// Package petreltest runs an MQTT broker inside the test of a program that
// needs one.
//
//	func TestThermostat(t *testing.T) {
//		b := petreltest.Start(t)
//		go thermostat.Run(t.Context(), b.URL) // "mqtt://127.0.0.1:41873"
//		b.Publish("home/temp", "17.5")
//		m := b.WaitFor("home/heater/set")
//		if m.String() != "ON" {
//			t.Fatalf("heater = %q; want ON", m)
//		}
//	}
//
// [Start] listens on free ports of the loopback interface, for MQTT plain, over
// TLS and over WebSocket. Everybody may connect, the broker logs to the test,
// and it ends with the test.
//
// # Waiting
//
// A test never sleeps. What it needs of the program is waited for, at most 5
// seconds, after which the test fails and is told what happened instead:
// [Broker.WaitFor] waits for a message, [Broker.WaitForSubscriber] and
// [Broker.Publish] for a subscription, [Broker.Kick] for a client to be
// connected. As they may end the test, these are for the goroutine of the test.
//
// # Bad weather
//
// [Broker.Restart], [Broker.Refuse], [Broker.Stall] and [Broker.Kick] show how
// the program copes with a broker or a network that fails.
//
// # Fake time
//
// [StartInMemory] opens no sockets: clients get their connections from
// [Broker.Dial]. So it works in a [testing/synctest] bubble, where keep alives,
// expiries and pauses between attempts to connect take no time at all.
//
//	synctest.Test(t, func(t *testing.T) {
//		b := petreltest.StartInMemory(t)
//		go thermostat.RunOn(t.Context(), b.Dial())
//		...
//	})
package petreltest
