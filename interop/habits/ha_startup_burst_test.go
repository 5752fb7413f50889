package habits_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Home Assistant, which speaks through Paho for Python.
const (
	haConnect = "\x10\x62" + // CONNECT, 98 bytes
		"\x00\x04MQTT\x04" + // 3.1.1
		"\xc6" + // user name, password, will: not retained, QoS 0; Clean Session
		"\x00\x3c" + // keep alive 60 s
		"\x00\x163x9GdXjBQ7kTn2LZ0aVw8R" + // client identifier: a UUID in base 62
		"\x00\x14homeassistant/status" + "\x00\x07offline" + // will
		"\x00\x0dhomeassistant" + "\x00\x10ooPh4ohzahQu0eeK"

	haBirth = "\x30\x1c" + // PUBLISH, QoS 0, not retained
		"\x00\x14homeassistant/status" + "online"
)

// haAckTimeout is how long Home Assistant waits for an acknowledgement.
const haAckTimeout = 10 * time.Second

// haComponents are some of the things that it discovers.
var haComponents = []string{
	"alarm_control_panel", "binary_sensor", "button", "camera", "climate", "cover", "device_automation", "device_tracker",
	"event", "fan", "humidifier", "image", "lawn_mower", "light", "lock", "notify", "number", "scene", "select", "sensor",
	"siren", "switch", "tag", "text", "update", "vacuum", "valve", "water_heater",
}

// haDiscovery are its SUBSCRIBEs for discovery: filters with wildcards go one by
// one, with QoS 0.
func haDiscovery() (list string, n int) {
	for _, component := range haComponents {
		for _, filter := range []string{"homeassistant/" + component + "/+/config", "homeassistant/" + component + "/+/+/config"} {
			n++
			list += frame(0x82, u16(n), field(filter), "\x00")
		}
	}
	return list, n
}

// haConfig is the discovery of one entity, as Zigbee2MQTT publishes it.
func haConfig(i int) (topic, payload string) {
	node := fmt.Sprintf("0x00158d%010x", i)
	topic = fmt.Sprintf("homeassistant/%s/%s/state/config", haComponents[i%len(haComponents)], node)
	payload = fmt.Sprintf(`{"availability":[{"topic":"zigbee2mqtt/bridge/state","value_template":"{{ value_json.state }}"}],`+
		`"device":{"identifiers":["zigbee2mqtt_%[1]s"],"manufacturer":"Aqara","model":"Temperature and humidity sensor (WSDCGQ11LM)",`+
		`"name":"%[1]s","sw_version":"3000-0001","via_device":"zigbee2mqtt_bridge_0x00124b0029e7a5d1"},`+
		`"enabled_by_default":true,"object_id":"%[1]s_state","origin":{"name":"Zigbee2MQTT","sw":"2.14.1","url":"https://www.zigbee2mqtt.io"},`+
		`"state_topic":"zigbee2mqtt/%[1]s","unique_id":"%[1]s_state_zigbee2mqtt","value_template":"{{ value_json.state }}"}`, node)
	return topic, payload
}

// haHouse is a broker in which everything has announced itself: n entities.
func haHouse(t *testing.T, o petrel.Options, n int) (b *brokertest.Broker, configs map[string]string) {
	b = brokertest.New(t, o)
	configs = make(map[string]string, n)
	z2m := plug(t, b)
	z2m.write(z2mConnect)
	z2m.expect(accepted)
	for i := range n {
		topic, payload := haConfig(i)
		configs[topic] = payload
		z2m.write(frame(0x31, field(topic), payload)) // QoS 0, retained
	}
	z2m.expectNothing()
	return b, configs
}

// After its start Home Assistant subscribes to everything at once, and is busy
// with what it gets. Nothing may be lost, however small the queue of a session
// is, and no acknowledgement may wait for the end of it.
func TestHomeAssistantStartupBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const entities, live = 5000, 50
		b, missing := haHouse(t, petrel.Options{QueueMessages: 100}, entities)
		ha := plug(t, b)
		ha.write(haConnect)
		ha.expect(accepted)
		discovery, n := haDiscovery()
		start := time.Now()
		ha.write(discovery)
		synctest.Wait() // the subscriptions are in effect

		device := speaker(b, "device")
		for i := range live {
			topic, _ := haConfig(i)
			device.Publish(topic, "now", packets.AtMostOnce)
		}
		require.Zero(t, time.Since(start), "a publisher does not wait for a slow reader")

		in := intake{device: ha, chunk: 2048, pause: 10 * time.Millisecond} // 200 kB/s
		acks, news, asked := 0, 0, time.Time{}
		for len(missing) > 0 || acks <= n || news < live {
			if len(missing) == entities/2 && asked.IsZero() { // in the middle of it all it goes on subscribing
				_, states := haStates(n+1, 500)
				ha.write(states)
				asked = time.Now()
			}
			switch p := in.next(); {
			case p.first == 0x90 && acks < n:
				acks++
				require.Equal(t, u16(acks)+"\x00", string(p.body), "SUBACKs come in order")
				require.Less(t, p.at.Sub(start), haAckTimeout)
			case p.first == 0x90:
				acks++
				require.Equal(t, u16(acks)+strings.Repeat("\x00", 500), string(p.body))
				require.Less(t, p.at.Sub(asked), haAckTimeout)
				require.NotEmpty(t, missing, "the acknowledgement does not wait for the retained messages")
			case p.first == 0x31: // PUBLISH, QoS 0, RETAIN
				require.Equal(t, missing[p.topicOf()], string(p.payloadOf()), "a wrong or repeated config")
				delete(missing, p.topicOf())
			case p.first == 0x30 && string(p.payloadOf()) == "now":
				news++
			default:
				t.Fatalf("got %v; want SUBACK or PUBLISH", p)
			}
		}
		require.Greater(t, time.Since(start), haAckTimeout, "the reader is slow enough to make this hard")
		require.Equal(t, live, news)
		require.Empty(t, in.buf)
		ha.expectNothing()
		require.Empty(t, b.Stats().Dropped)
	})
}

// The same over a socket, with a reader that begins when everything is under way.
func TestHomeAssistantStartupBurstOverTCP(t *testing.T) {
	const entities = 5000
	b, missing := haHouse(t, petrel.Options{QueueMessages: 100}, entities)
	ha := plugTCP(t, b)
	ha.write(haConnect)
	discovery, n := haDiscovery()
	ha.write(discovery)
	ha.expect(accepted)
	in := intake{device: ha, chunk: 512}
	for acks := 0; len(missing) > 0 || acks < n; {
		switch p := in.next(); p.first {
		case 0x90:
			acks++
			require.Equal(t, u16(acks)+"\x00", string(p.body), "SUBACKs come in order")
		case 0x31:
			require.Equal(t, missing[p.topicOf()], string(p.payloadOf()), "a wrong or repeated config")
			delete(missing, p.topicOf())
		default:
			t.Fatalf("got %v; want SUBACK or PUBLISH", p)
		}
	}
	require.Empty(t, in.buf)
	ha.expectNothing()
	require.Empty(t, b.Stats().Dropped)
}

// haStates are n plain topics, and their SUBSCRIBE in one packet.
func haStates(id, n int) (topics []string, subscribe string) {
	var filters strings.Builder
	for i := range n {
		topics = append(topics, fmt.Sprintf("zigbee2mqtt/0x00158d%010x", i))
		filters.WriteString(field(topics[i]) + "\x00")
	}
	return topics, frame(0x82, u16(id), filters.String())
}

// It subscribes to up to 500 topics in one packet, and when it does so again it
// counts on getting all states again.
func TestHomeAssistantResubscribes(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	const filters = 500
	topics, _ := haStates(1, filters)
	devices := speaker(b, "devices")
	for _, topic := range topics {
		devices.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte(`{"state":"ON"}`), QoS: packets.AtLeastOnce, Retain: true})
	}
	ha := plug(t, b)
	ha.write(haConnect)
	ha.expect(accepted)
	ha.write(haBirth)
	for id := 1; id <= 3; id++ {
		_, subscribe := haStates(id, filters)
		ha.write(subscribe)
		// SUBACK, 502 bytes: one code per filter.
		ha.expect("\x90\xf6\x03", u16(id), strings.Repeat("\x00", filters))
		missing := make(map[string]bool)
		for _, topic := range topics {
			missing[topic] = true
		}
		in := intake{device: ha, chunk: 4096}
		for range filters {
			p := in.next()
			require.Equal(t, byte(0x31), p.first, "PUBLISH, QoS 0, RETAIN; got %v", p)
			require.Equal(t, `{"state":"ON"}`, string(p.payloadOf()))
			require.True(t, missing[p.topicOf()], "a wrong or repeated state of %s in round %d", p.topicOf(), id)
			delete(missing, p.topicOf())
		}
		require.Empty(t, in.buf)
		ha.expectNothing()
	}
	require.Equal(t, filters, b.Stats().Subscriptions, "the second SUBSCRIBE replaces the first")
}

// It stops by closing the connection, without a DISCONNECT, so that everybody
// learns from its will that it is gone.
func TestHomeAssistantStopsByClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		tasmota := watcher(b, "tasmota", packets.AtMostOnce, "homeassistant/status")
		ha := plug(t, b)
		ha.write(haConnect)
		ha.expect(accepted)
		ha.write(haBirth)
		tasmota.ExpectPublish("homeassistant/status", "online")
		time.Sleep(30 * time.Second)
		stop := time.Now()
		ha.Close()
		p := tasmota.ExpectPublish("homeassistant/status", "offline")
		require.Zero(t, time.Since(stop), "the will goes out at once")
		require.False(t, p.Retain)
		require.Equal(t, "none", retained(b, "homeassistant/status"))
	})
}

// Return codes 4 and 5 make it ask its user for other credentials, and stop
// until it has them. Anything else makes it try again every 10 seconds.
func TestHomeAssistantRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		says   error
		answer string
	}{
		{"a wrong password", packets.BadUserNameOrPassword, "\x20\x02\x00\x04"},
		{"a user who may not connect", packets.NotAuthorized, "\x20\x02\x00\x05"},
		{"a wrong password, with detail", &packets.Error{Code: packets.BadUserNameOrPassword, Detail: "line 12"}, "\x20\x02\x00\x04"},
		{"a data base that is down", errors.New("connection refused"), "\x20\x02\x00\x03"},
		{"a broker that is busy", packets.ServerBusy, "\x20\x02\x00\x03"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var user, password string
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{
				petrel.AuthenticatorFunc(func(_ context.Context, r *petrel.ConnectRequest) error {
					user, password = r.UserName, string(r.Password)
					return c.says
				}),
			}})
			ha := plug(t, b)
			ha.write(haConnect)
			ha.expect(c.answer)
			ha.expectEnd()
			require.Equal(t, "homeassistant", user)
			require.Equal(t, "ooPh4ohzahQu0eeK", password)
			require.Zero(t, b.Stats().PublishReceived+b.Stats().Connects, "a will of a refused client is no message")
		})
	}
}
