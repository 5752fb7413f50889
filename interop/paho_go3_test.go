package interop

import (
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"
)

var pahoGo3 = driver{
	name:       "paho.mqtt.golang",
	title:      "Paho for Go, paho.mqtt.golang",
	versions:   []string{"3.1", "3.1.1"},
	transports: []string{"tcp", "tls", "mtls", "ws", "wss", "unix"},
	subscribe: func(t *testing.T, o options, filter string, qos int) *subscriber {
		r := newRelay(t, o)
		o.addr = r.Addr().String()
		s := newSubscriber()
		s.cut = r.cut
		opts := pahoGo3Options(t, o)
		opts.SetAutoReconnect(true).SetConnectRetry(true).SetConnectRetryInterval(100 * time.Millisecond).SetMaxReconnectInterval(time.Second)
		opts.SetOnConnectHandler(func(c mqtt.Client) {
			token := c.Subscribe(filter, byte(qos), func(_ mqtt.Client, m mqtt.Message) {
				s.messages <- message{m.Topic(), string(m.Payload()), int(m.Qos()), m.Retained()}
			})
			go func() {
				if token.WaitTimeout(patience) && token.Error() == nil {
					s.subscribed <- struct{}{}
				}
			}()
		})
		c := mqtt.NewClient(opts)
		c.Connect()
		t.Cleanup(func() { c.Disconnect(0) })
		return s
	},
	publish: func(t *testing.T, o options, m message) {
		c := mqtt.NewClient(pahoGo3Options(t, o))
		finish(t, c.Connect())
		finish(t, c.Publish(m.Topic, byte(m.QoS), m.Retain, m.Payload))
		c.Disconnect(100)
	},
}

func pahoGo3Options(t *testing.T, o options) *mqtt.ClientOptions {
	version := map[string]uint{"3.1": 3, "3.1.1": 4}[o.version]
	server := o.transport.seen()
	if server == "mtls" {
		server = "tls"
	}
	server += "://" + o.addr
	if o.transport.web {
		server += "/mqtt"
	}
	opts := mqtt.NewClientOptions().AddBroker(server).
		SetProtocolVersion(version).SetClientID(o.id).SetConnectTimeout(patience)
	if o.transport.secure {
		opts.SetTLSConfig(trusting(t, o.transport))
	}
	if o.will != nil {
		opts.SetWill(o.will.Topic, o.will.Payload, byte(o.will.QoS), o.will.Retain)
	}
	return opts
}

func finish(t *testing.T, token mqtt.Token) {
	t.Helper()
	require.True(t, token.WaitTimeout(patience), "the broker does not answer")
	require.NoError(t, token.Error())
}
