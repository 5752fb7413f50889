package interop

import (
	"context"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	"github.com/stretchr/testify/require"
)

var pahoGo5 = driver{
	name:       "paho.golang",
	title:      "Paho for Go, paho.golang",
	versions:   []string{"5.0"},
	transports: []string{"tcp", "tls", "mtls", "ws", "wss", "unix"},
	subscribe: func(t *testing.T, o options, filter string, qos int) *subscriber {
		r := newRelay(t, o)
		o.addr = r.Addr().String()
		s := newSubscriber()
		s.cut = r.cut
		config := pahoGo5Config(t, o)
		config.OnConnectionUp = func(c *autopaho.ConnectionManager, _ *paho.Connack) {
			go func() { // the callback must not wait for the broker
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				subscription := paho.SubscribeOptions{Topic: filter, QoS: byte(qos)}
				if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{subscription}}); err == nil {
					s.subscribed <- struct{}{}
				}
			}()
		}
		config.OnPublishReceived = []func(paho.PublishReceived) (bool, error){
			func(p paho.PublishReceived) (bool, error) {
				s.messages <- message{p.Packet.Topic, string(p.Packet.Payload), int(p.Packet.QoS), p.Packet.Retain}
				return true, nil
			},
		}
		ctx, cancel := context.WithCancel(context.Background())
		c, err := autopaho.NewConnection(ctx, config)
		require.NoError(t, err)
		t.Cleanup(func() {
			cancel()
			<-c.Done()
		})
		return s
	},
	publish: func(t *testing.T, o options, m message) {
		c, err := autopaho.NewConnection(context.Background(), pahoGo5Config(t, o))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, c.AwaitConnection(ctx))
		_, err = c.Publish(ctx, &paho.Publish{Topic: m.Topic, Payload: []byte(m.Payload), QoS: byte(m.QoS), Retain: m.Retain})
		require.NoError(t, err)
		if m.QoS > 0 {
			require.NoError(t, c.Disconnect(ctx))
			return
		}
		// This client begins with a PINGREQ. If it closes its socket before it has read
		// the PINGRESP, its system resets the connection, and gives up what it has not
		// sent yet: a message that nobody acknowledges may be in that.
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			require.NoError(t, c.Disconnect(ctx))
		})
	},
}

func pahoGo5Config(t *testing.T, o options) autopaho.ClientConfig {
	schemes := map[string]string{"tcp": "mqtt", "tls": "mqtts", "mtls": "mqtts", "ws": "ws", "wss": "wss"}
	server := &url.URL{Scheme: schemes[o.transport.seen()], Host: o.addr}
	if o.transport.web {
		server.Path = "/mqtt"
	}
	config := autopaho.ClientConfig{
		ServerUrls:       []*url.URL{server},
		KeepAlive:        30,
		ConnectTimeout:   patience,
		ReconnectBackoff: func(int) time.Duration { return 100 * time.Millisecond },
		ClientConfig:     paho.ClientConfig{ClientID: o.id},
	}
	if o.transport.secure {
		config.TlsCfg = trusting(t, o.transport)
	}
	if o.transport.network() == "unix" { // it has no scheme for that, but takes a connection of ours
		server.Host = "localhost"
		config.AttemptConnection = func(ctx context.Context, _ autopaho.ClientConfig, _ *url.URL) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", o.addr)
		}
	}
	if w := o.will; w != nil {
		config.WillMessage = &paho.WillMessage{Topic: w.Topic, Payload: []byte(w.Payload), QoS: byte(w.QoS), Retain: w.Retain}
	}
	return config
}
