package habits_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// A Tasmota plug, with the values that its firmware has by default.
const (
	tasmotaLWT = "tele/tasmota_2A3B4C/LWT"

	tasmotaConnect = "\x10\x4f" + // CONNECT, 79 bytes
		"\x00\x04MQTT\x04" + // 3.1.1
		"\xee" + // user name, password, will: retained, QoS 1; Clean Session
		"\x00\x1e" + // keep alive 30 s
		"\x00\x0bDVES_2A3B4C" + // client identifier: the end of the MAC address
		"\x00\x17tele/tasmota_2A3B4C/LWT" + "\x00\x07Offline" + // will
		"\x00\x09DVES_USER" + "\x00\x09DVES_PASS"

	tasmotaOnline = "\x31\x1f" + // PUBLISH, QoS 0, retained
		"\x00\x17tele/tasmota_2A3B4C/LWT" + "Online"

	tasmotaPower = "\x30\x1b" + // PUBLISH, QoS 0, no payload: an old wish of ioBroker
		"\x00\x19cmnd/tasmota_2A3B4C/POWER"

	// Three SUBSCRIBEs with QoS 0. The library counts from 2.
	tasmotaSubscribe = "\x82\x1a" + "\x00\x02" + "\x00\x15cmnd/tasmota_2A3B4C/#" + "\x00" +
		"\x82\x14" + "\x00\x03" + "\x00\x0fcmnd/tasmotas/#" + "\x00" +
		"\x82\x1a" + "\x00\x04" + "\x00\x15cmnd/DVES_2A3B4C_fb/#" + "\x00"
	tasmotaSubacks = "\x90\x03\x00\x02\x00" + "\x90\x03\x00\x03\x00" + "\x90\x03\x00\x04\x00"
)

// tasmotaSocketTimeout is how long the plug waits for CONNACK.
const tasmotaSocketTimeout = 4 * time.Second

// tasmotaAtWork is a plug that has gone through everything it does after CONNACK.
func tasmotaAtWork(t *testing.T, b *brokertest.Broker) *device {
	d := plug(t, b)
	d.write(tasmotaConnect)
	d.expect(accepted)
	d.write(tasmotaOnline, tasmotaPower, tasmotaSubscribe)
	d.expect(tasmotaSubacks)
	return d
}

// The first thing that the plug does with a new connection is to publish
// "Online". The will of its last one must have been published by then: what is
// retained at the end says whether the house believes that there is a plug.
func TestTasmotaWillComesBeforeOnline(t *testing.T) {
	for _, c := range []struct {
		name string
		lost func(old *device) // how the last connection is lost
	}{
		{"the broker has not noticed that the plug lost its Wi-Fi", func(*device) { time.Sleep(20 * time.Second) }},
		{"the plug restarts at once", func(*device) {}},
		{"the old connection breaks at the same moment", func(old *device) { old.Close() }},
		{"the old connection broke before", func(old *device) { old.cut() }},
		{"the keep alive of the old connection has passed", func(*device) { time.Sleep(46 * time.Second) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				house := watcher(b, "house", packets.AtMostOnce, "tele/+/LWT")
				old := tasmotaAtWork(t, b)
				house.ExpectPublish(tasmotaLWT, "Online")

				c.lost(old)
				plugged := plug(t, b)
				plugged.write(tasmotaConnect)
				plugged.expect(accepted)
				require.Equal(t, "Offline", retained(b, tasmotaLWT), "with CONNACK the will has been published")
				plugged.write(tasmotaOnline, tasmotaPower, tasmotaSubscribe)
				plugged.expect(tasmotaSubacks)

				house.ExpectPublish(tasmotaLWT, "Offline")
				house.ExpectPublish(tasmotaLWT, "Online")
				<-old.done
				for range 6 { // three minutes, in which no time-out of the old connection does harm
					time.Sleep(30 * time.Second)
					plugged.expectNothing()
				}
				house.ExpectNothing()
				require.Equal(t, "Online", retained(b, tasmotaLWT))
			})
		})
	}
}

// slowWills is a hook that takes a second over a will, and none over anything else.
type slowWills struct{}

func (slowWills) InterceptPublish(ctx context.Context, r *petrel.PublishRequest) error {
	if r.Will {
		time.Sleep(time.Second)
	}
	return nil
}

// The same if the will is still on its way through a hook when the plug is back.
func TestTasmotaWillOnItsWayComesBeforeOnline(t *testing.T) {
	for _, c := range []struct {
		name string
		lost func(b *brokertest.Broker, old *device)
	}{
		{"the old connection is displaced", func(*brokertest.Broker, *device) {}},
		{"the old connection broke before", func(_ *brokertest.Broker, old *device) {
			old.Close()
			time.Sleep(100 * time.Millisecond)
		}},
		{"the one that displaces it is displaced before its CONNACK", func(b *brokertest.Broker, old *device) {
			plug(old.t, b).write(tasmotaConnect)
			time.Sleep(100 * time.Millisecond)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{slowWills{}}})
				old := tasmotaAtWork(t, b)
				c.lost(b, old)
				plugged := plug(t, b)
				plugged.write(tasmotaConnect)
				plugged.expect(accepted)
				require.Equal(t, "Offline", retained(b, tasmotaLWT))
				plugged.write(tasmotaOnline)
				plugged.expectNothing()
				time.Sleep(10 * time.Second)
				require.Equal(t, "Online", retained(b, tasmotaLWT), "the old will came after the plug said that it is there")
			})
		})
	}
}

// The plug waits 4 seconds for CONNACK, and begins again if it does not come.
func TestTasmotaSocketTimeout(t *testing.T) {
	for _, c := range []struct {
		name   string
		takes  time.Duration // that the hook takes for its decision
		answer string
		after  time.Duration
	}{
		{"a slow hook that admits", 3 * time.Second, accepted, 3 * time.Second},
		{"a hook that hangs", time.Hour, "\x20\x02\x00\x03", 3500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow := func(ctx context.Context, r *petrel.ConnectRequest) error {
					if r.ClientID != "DVES_2A3B4C" {
						return nil
					}
					select {
					case <-time.After(c.takes):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				b := brokertest.New(t, petrel.Options{
					HookTimeout: 3500 * time.Millisecond, // below the patience of the plug
					Hooks:       []petrel.Hook{petrel.AuthenticatorFunc(slow)},
				})
				start := time.Now()
				d := plug(t, b)
				d.write(tasmotaConnect)
				watcher(b, "another", packets.AtMostOnce, "#").ExpectNothing()
				require.Zero(t, time.Since(start), "one slow decision holds up nobody else")
				d.expect(c.answer)
				require.Equal(t, c.after, time.Since(start))
				require.Less(t, time.Since(start), tasmotaSocketTimeout)
			})
		})
	}
}
